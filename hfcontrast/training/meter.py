"""The progress bar of a training, and what its log lines hold."""

import contextlib
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import TrainingError
from ..nn.distributed import all_mean
from .build import Training
from .collapse import CollapseWatch, spread
from .step import StepResult

WAITING = "waiting_for_data"  # what notes call the share of the time


class Meter(contextlib.AbstractContextManager):
    """The progress bar, and what a log line holds: losses, learning rate, speed and the share of time spent waiting for data.

    Args:
        training: The run.
        step: Steps done before.
    """

    def __init__(self, training: Training, step: int):
        self.training = training
        self.bar = tqdm(
            total=training.total_steps,
            initial=step,
            desc=training.output.name,
            unit="step",
            disable=not training.accelerator.is_main_process,
            dynamic_ncols=True,
        )
        self.images_per_second = 0.0
        self.begun = self.since = time.perf_counter()
        self.first = self.step = step
        self.waited = 0.0
        self._intervals: list[tuple[float, float]] = []
        self.collapse = CollapseWatch(training.method, training.recipe.method.name)

    def __exit__(self, *_) -> None:
        self.bar.close()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """A block that is no step: the bar's time left is computed without it."""
        begun = time.time()  # tqdm's clock
        try:
            yield
        finally:
            if not self.bar.disable:
                taken = time.time() - begun
                self.bar.start_t += taken
                self.bar.last_print_t += taken

    def wait(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The next micro-batch; the time until it is there counts as waiting."""
        before = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - before
        return batch

    def log(self, done: StepResult, step: int) -> dict[str, float]:
        """Means over micro-batches and processes, how far the embeddings are spread, and the speed since the last log."""
        outputs, lr = done.outputs, done.lr
        names = sorted(outputs[0].metrics or {})
        if other := [sorted(o.metrics or {}) for o in outputs if sorted(o.metrics or {}) != names]:
            raise TrainingError(
                f"the micro-batches of step {step} have different metrics, {names} and {other[0]}: a method gives the same in "
                "every step"
            )
        rows = [torch.stack([o.loss.float(), *(o.metrics[n].float() for n in names)]) for o in outputs]
        spread_out = spread(done.embeddings)
        means = torch.cat([torch.stack(rows).mean(dim=0), *(value.view(1) for value in spread_out.values())])
        values = dict(zip(["loss", *names, *spread_out], all_mean(means).tolist()))
        self.warn(self.collapse.look(values, step / self.training.total_steps))
        now = time.perf_counter()
        batch_size = self.training.recipe.train.batch_size
        speed = (step - self.step) * batch_size / (now - self.since)
        self.images_per_second = (step - self.first) * batch_size / (now - self.begun)
        waiting = self.waited / (now - self.since)
        self._intervals.append((self.waited, now - self.since))
        self.since, self.step, self.waited = now, step, 0.0
        self.bar.set_postfix_str(f"loss {values['loss']:.4f}, lr {lr:.2e}, {speed:,.0f} img/s")
        epoch = round(step / self.training.loader.steps_per_epoch, 4)
        return {"epoch": epoch, **values, "lr": lr, "images_per_second": round(speed, 1), "waiting": round(waiting, 4)}

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data, in [0, 1], in the steady state: without the steps until the first log line, if there are others."""
        steady = self._intervals[1:] or self._intervals
        return sum(waited for waited, _ in steady) / max(sum(taken for _, taken in steady), 1e-9)

    def warn(self, text: str | None) -> None:
        """Prints what is to be said, if anything is, above the bar."""
        if text:
            self.bar.write(text)

    def advance(self) -> None:
        """One step further."""
        self.bar.update()

    def show(self, scores: dict[str, float]) -> None:
        """Prints an evaluation above the bar."""
        text = ", ".join(f"{name} {value:.4g}" for name, value in scores.items() if not math.isnan(value))
        self.bar.write(f"step {self.bar.n}: {text}")
