"""Early stopping: the learning rate is lowered, the best state restored or the training ended when the encoder gets worse."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import CheckpointError
from ..nn.random import generator_kept
from .build import Training
from .step import OptimizerStep

NOTE = "early_stopping"  # what the notes of a checkpoint call it
FILE = "best.safetensors"  # of a checkpoint
_MEASUREMENTS, _FEWEST = 20, 4  # of a run, where it says auto
_SHARE = 0.1  # of a run for a time that they may take
KNN, LABEL_FREE = "knn", "label_free"
_FIGURES = {KNN: "knn", LABEL_FREE: "view_agreement"}
START, END, BEST = "start", "end", "best"


class Monitor(Protocol):
    """Measures encoders on a fifth of the training images; see :class:`hfcontrast.evaluation.monitor.Monitor`."""

    labeled: bool

    def begin(self, encoder: PreTrainedModel) -> None: ...

    def __call__(self, encoder: PreTrainedModel) -> dict[str, float]: ...


def seconds_of_measurements(notes: dict[str, Any], every: Any, minutes: float) -> tuple[float, float]:
    """The time that the measurements of a run for a time take: seconds in all, of ``auto``, and seconds of each step.

    Args:
        notes: Those of the run; for ``auto`` they get the number of measurements.
        every: ``early_stopping.every``.
        minutes: The time of the run.
    """
    state = notes.get(NOTE) or {}
    seconds = state.get("seconds", 0.0)
    if not seconds or every is None:
        return 0.0, 0.0
    if every != "auto":
        return 0.0, seconds / every
    if "every" not in state:
        state["count"] = min(max(int(_SHARE * 60 * minutes / seconds), _FEWEST), _MEASUREMENTS)
    return state.get("count", _MEASUREMENTS) * seconds, 0.0


class EarlyStopping:
    """Watches a run: what it decides is the same on all processes, and after a resume as without.

    A measurement below the best one by more than ``min_delta``, or of a collapse, counts as worse. After ``patience`` of them in a row
    the best state (weights, teachers, queues) is restored with a fresh optimizer and a lower learning rate; after ``max_reductions`` of
    these, the training ends. At the end the best state is restored if the last one is worse, or worse than the start. A training of
    which no measurement is worse is, to the bit, the one without early stopping.

    Args:
        training: The run, with the weights that it starts from.
        monitor: Measures encoders.
    """

    def __init__(self, training: Training, monitor: Monitor):
        self.training, self.monitor = training, monitor
        self.settings = training.recipe.early_stopping
        labeled = monitor.labeled and self.settings.metric != LABEL_FREE
        self.state: dict[str, Any] = {
            "metric": KNN if labeled else LABEL_FREE,
            "start": None,
            "measurements": [],
            "best_step": None,
            "best": None,
            "waiting": 0,
            "reductions": [],
            "lr_factor": 1.0,
            "stopped_at": None,
            "published": None,
        }
        self.best: dict[str, Tensor] = {}

    @property
    def lr_factor(self) -> float:
        """What the learning rate is multiplied by."""
        return self.state["lr_factor"]

    def begin(self, checkpoint: Path | None, notes: dict[str, Any]) -> None:
        """Measures the start, or takes over what a checkpoint has; called before that is loaded.

        Args:
            checkpoint: The checkpoint; None of a new run.
            notes: Those of the checkpoint.
        """
        with generator_kept(self.training.accelerator.device):
            self.monitor.begin(self.training.method.export_encoder())
        if checkpoint is None:
            begun = time.monotonic()
            self.state["start"] = self.state["best"] = self._measure()
            self.state["seconds"] = round(time.monotonic() - begun, 2)
            if not self._frozen_steps:
                self._remember(0, self.state["start"])
            return
        if NOTE not in notes:
            raise CheckpointError(f"{checkpoint} was written without early_stopping: choose another train.output")
        self.state = notes[NOTE]
        if (file := checkpoint / FILE).exists():
            self.best = load_file(file)

    def due(self, step: int) -> bool:
        """Whether something is to be done after so many steps."""
        last = step >= self.training.total_steps
        return step >= self._frozen_steps and (last or step == self._frozen_steps or step % self.every == 0)

    def act(self, step: int, optimizer_step: OptimizerStep, log: Callable[[dict[str, Any], int], None]) -> str | None:
        """As :meth:`look`, sets the factor of the learning rate, and logs what is measured."""
        told, measured = self.look(step), self.state["measurements"]
        optimizer_step.lr_factor = self.lr_factor
        if measured and measured[-1]["step"] == step:
            log({NOTE: {name: value for name, value in measured[-1].items() if name != "step"}}, step)
        return told

    def look(self, step: int) -> str | None:
        """Measures the encoder after so many steps and acts on it; every process must call it.

        Returns:
            What to tell the user, or None.
        """
        last, frozen = step >= self.training.total_steps, step == self._frozen_steps
        if frozen:  # the encoder is that of the start, and the heads are warmed up
            figures = self.state["start"]
            self._remember(step, figures)
        else:
            figures = self._measure()
            self.state["measurements"].append({"step": step, **figures})
            worse = self.why_worse(figures)
            self.state["waiting"] = self.state["waiting"] + 1 if worse else 0
            if not worse and self.score(figures) > self.score(self.state["best"]):
                self._remember(step, figures)
        told = None
        if not last and self.state["waiting"] >= self.settings.patience:
            told = self._go_back(step)
        if step >= self.training.total_steps and self.state["published"] is None:
            self._finish(figures)
        return told

    def score(self, figures: dict[str, float]) -> float:
        """The figure that decides; below all others where there is none."""
        return figures.get(_FIGURES[self.state["metric"]], -1.0)

    def why_worse(self, figures: dict[str, float]) -> str | None:
        """Why an encoder counts as worse than the best one, as the end of a sentence; None where it does not."""
        start, settings = self.state["start"], self.settings
        if "rankme" not in figures:
            return "its features are not finite"
        if figures["rankme"] < settings.min_rank * start["rankme"]:
            return f"RankMe fell from {start['rankme']:.1f} to {figures['rankme']:.1f}"
        if self.state["metric"] == LABEL_FREE and figures["shared_with_start"] < settings.min_shared:
            return f"its images keep {figures['shared_with_start']:.0%} of their nearest neighbors"
        if self.score(figures) < self.score(self.state["best"]) - settings.min_delta:
            return f"{self.told(figures)}, and {self.told(self.state['best'])} before"
        return None

    def told(self, figures: dict[str, float]) -> str:
        """The figure that decides, in words."""
        name = "kNN accuracy" if self.state["metric"] == KNN else "neighbors shared by two views"
        return f"{name} {self.score(figures):.1%}" if figures else "features that are not finite"

    @property
    def every(self) -> int:
        """Steps between two measurements; fixed once the length of the run is."""
        if "every" not in self.state:
            asked = self.settings.every
            count = self.state.get("count", _MEASUREMENTS)
            self.state["every"] = max(self.training.total_steps // count, 1) if asked == "auto" else asked
        return self.state["every"]

    def write(self, folder: Path) -> None:
        """Writes the best state into a checkpoint."""
        if self.best:
            save_file(self.best, folder / FILE)

    @property
    def _frozen_steps(self) -> int:
        return self.training.recipe.optim.freeze_encoder_steps

    def _measure(self) -> dict[str, float]:
        with generator_kept(self.training.accelerator.device):
            found: list[Any] = [self.monitor(self.training.method.export_encoder())]
        broadcast_object_list(found)  # the decision of one process
        return json.loads(json.dumps(found[0]))

    def _remember(self, step: int, figures: dict[str, float]) -> None:
        self.state |= {"best_step": step, "best": figures}
        state = self.training.method.state_dict()
        self.best = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}

    def _go_back(self, step: int) -> str:
        why = self.why_worse(self.state["measurements"][-1])
        self._restore()
        self.state["waiting"] = 0
        where = self._where()
        if len(self.state["reductions"]) >= self.settings.max_reductions:
            self.state |= {"stopped_at": step, "published": START if self._at_start() else BEST}
            self.training.length = replace(self.training.length, stopped=step)
            return f"step {step}: the encoder got worse again ({why}): the training ends, with {where}"
        self.state["reductions"].append(step)
        self.state["lr_factor"] *= self.settings.lr_factor
        return f"step {step}: the encoder got worse ({why}): back to {where}, and on with {self.lr_factor:.2g} of the learning rate"

    def _finish(self, figures: dict[str, float]) -> None:
        start = self.state["start"]
        if self.why_worse(figures) or self.score(figures) < self.score(start):
            self._restore()
            self.state["published"] = START if self._at_start() else BEST
        else:
            self.state["published"] = END

    def _at_start(self) -> bool:
        return self.state["best_step"] == self._frozen_steps

    def _where(self) -> str:
        return "the encoder of the start" if self._at_start() else f"that of step {self.state['best_step']}"

    @torch.no_grad()
    def _restore(self) -> None:
        """Restores the best state in place, and lets the optimizer begin afresh."""
        now = self.training.method.state_dict()
        for name, value in self.best.items():
            now[name].copy_(value)
        inner = getattr(self.training.optimizer, "optimizer", self.training.optimizer)
        inner.state.clear()
