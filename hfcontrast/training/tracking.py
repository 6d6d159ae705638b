"""Logging of metrics: to metrics.jsonl always, to Accelerate's trackers on request."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker

from ..atomic import json_text, write_text, writing
from ..errors import RecipeError
from ..recipe.sections import TrackSection

FORMER = "former_eval"
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


class Tracking:
    """Writes one line of JSON for every log, and hands the same numbers to the trackers. Acts on the main process only.

    Args:
        file: ``metrics.jsonl``.
        accelerator: Owner of the trackers.
    """

    def __init__(self, file: Path, accelerator: Accelerator):
        self.file = file
        self.accelerator = accelerator

    def start(
        self, settings: TrackSection, folder_name: str, recipe: dict[str, Any], step: int, total_steps: int, run_id: str
    ) -> None:
        """Opens the trackers, and drops the lines that a run continued at ``step`` writes again.

        These are the lines after it, and the final evaluation, which follows the last checkpoint.

        Args:
            settings: Which trackers, and what the run is called there.
            folder_name: The name of a run that has no other.
            recipe: The recipe.
            step: Steps done before.
            total_steps: Steps of the whole run.
            run_id: What names the run for good, over all its starts.

        Raises:
            RecipeError: A tracker's package is not installed.
            OutputError: The file cannot be written.
        """
        kept = [values for values in read_metrics(self.file) if values["step"] <= step]
        if step == total_steps:
            kept = [values for values in kept if "eval" not in values or values["step"] < step]
        if self.accelerator.is_main_process:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with writing(str(self.file)):
                write_text(self.file, "".join(json_text(values) + "\n" for values in kept))
        self.accelerator.log_with = [kind for kind in self.accelerator.log_with if str(kind) != "tensorboard"]
        name = settings.run_name or folder_name
        own = {
            "wandb": {"name": name, "id": run_id, "resume": "allow"},
            "trackio": {"name": name, "resume": "allow" if step else "never"},
        }
        try:
            if self.accelerator.log_with:
                self.accelerator.init_trackers(settings.project, config=_flat(recipe), init_kwargs=own)
            if "tensorboard" in settings.to and self.accelerator.is_main_process:
                last = [values for values in kept if values["step"] == step]
                self._start_tensorboard(settings, _flat(recipe), step, last)
        except (ImportError, ValueError) as error:
            raise RecipeError(f"track.to: a tracker of {settings.to} cannot be started: {error}") from error

    def _start_tensorboard(
        self, settings: TrackSection, recipe: dict[str, Any], step: int, last: list[dict[str, Any]]
    ) -> None:
        """One run for all starts: what stands there from ``step`` on is taken back, and what is kept of that step written again."""
        folder = self.file.parent / settings.project / (settings.run_name or "")
        tracker = TensorBoardTracker(folder.name, folder.parent, purge_step=step)
        tracker.start()
        from torch.utils.tensorboard.summary import hparams  # its package is an extra

        for summary in hparams(recipe, {}):  # add_hparams would make a second run of them, without a curve
            tracker.writer.file_writer.add_summary(summary)
        for values in last:
            tracker.log(_curves(values), step=step)
        self.accelerator.trackers.append(tracker)

    def log(self, values: dict[str, Any], step: int) -> None:
        """Logs values after ``step`` optimizer steps.

        Raises:
            OutputError: The file cannot be written.
        """
        if not self.accelerator.is_main_process:
            return
        advice = "free some space; the same command then resumes from the newest checkpoint"
        with writing(str(self.file), advice), self.file.open("a") as file:
            file.write(json_text({"step": step, **values}) + "\n")
        self.accelerator.log(_curves(values), step=step)


def missing_packages(trackers: Sequence[str]) -> list[str]:
    """Packages of the chosen trackers that are not installed."""
    from importlib.util import find_spec

    return [_PACKAGES[name] for name in trackers if find_spec(_PACKAGES[name]) is None]


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; without those that are none, such as the last one of a killed run, which can be half."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            values = json.loads(line)
            if isinstance(values, dict) and isinstance(values.get("step"), int):
                found.append(values)
    return found


def set_evaluations_aside(file: Path) -> None:
    """Calls the evaluations in a ``metrics.jsonl`` ``former_eval``, as those that follow are of other rows or settings.

    Raises:
        OutputError: It cannot be written.
    """
    lines = [{FORMER if key == "eval" else key: value for key, value in line.items()} for line in read_metrics(file)]
    if lines:
        with writing(str(file)):
            write_text(file, "".join(json_text(line) + "\n" for line in lines))


def _curves(values: dict[str, Any]) -> dict[str, Any]:
    return _flat({name: value for name, value in values.items() if name != "step"}, separator="/")


def _flat(values: dict[str, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}{separator}", separator))
        else:
            flat[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
