"""``hfcontrast bench``: how fast a recipe trains on this machine, and how much of that is the encoder itself.

Everything is measured in turn, round after round in one process, so that a noisy machine disturbs all alike; medians and
ratios are printed.
"""

import itertools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from ..console import plain_console
from ..encoders.features import encode
from ..encoders.two_towers import text_features
from ..methods.base import Progress
from ..recipe import Recipe, load_recipe
from ..training.build import Training, build_training
from ..training.memory import memory_of
from .loader import loader_speed, torchvision_chain_speed

_SECOND = "_against"  # of the second training's scratch folder
WARM_UP = 2  # rounds that are not counted: compilation, allocation, caches


@dataclass
class Timing:
    """Seconds of each round of something that is measured.

    Attributes:
        name: What it is.
        images: Images that one round handles.
        seconds: One entry a round.
    """

    name: str
    images: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median seconds of a round."""
        return statistics.median(self.seconds)

    @property
    def speed(self) -> float:
        """Images a second."""
        return self.images / self.median

    def of(self, other: "Timing") -> float:
        """Time of an image as a multiple of that of another, round by round: the median."""
        ratio = statistics.median(a / b for a, b in zip(self.seconds, other.seconds))
        return ratio * other.images / self.images


def bench(recipe: Recipe, seconds: float = 60.0, against: list[str] | None = None) -> dict[str, Any]:
    """Measures a recipe and prints a table.

    Args:
        recipe: The resolved recipe.
        seconds: Time for the rounds, beside building and warm-up.
        against: Overrides: a second training, changed so, whose floor and step are measured in the same rounds, on batches
            of its own.

    Returns:
        The figures: images/s by name, and the ratios.
    """
    changed = load_recipe(recipe.to_dict(), against) if against else None  # reports its errors first
    try:
        return measure(recipe, changed, seconds, against)
    finally:
        for folder in map(scratch_folder, ("", _SECOND)):
            shutil.rmtree(folder, ignore_errors=True)


def measure(recipe: Recipe, changed: Recipe | None, seconds: float, against: list[str] | None) -> dict[str, Any]:
    """Builds one training or two, measures and reports them; see :func:`bench`."""
    first = Subject(recipe)
    device = first.training.accelerator.device
    tasks = {
        "encoder alone (the floor)": (first, first.floor),
        "whole training step": (first, first.step),
        "end to end": (first, first.end_to_end),
    }
    if changed:
        second, settings = Subject(changed, _SECOND), " ".join(against)
        tasks[f"encoder alone, {settings}"] = (second, second.floor)
        tasks[f"whole training step, {settings}"] = (second, second.step)
    timings = in_turn({name: (task, subject.images) for name, (subject, task) in tasks.items()}, seconds, device)
    memory = {name: memory_of(task, device) for name, (_, task) in tasks.items()}
    waiting = waiting_share(first)
    loaders = loader_speeds(first.training, min(seconds / 6, 10.0))
    if left_out := len(first.training.loader.unreadable):
        print(f"{left_out} of the rows that were read are left out, as they cannot be decoded: they are named above")
    return report(timings, memory, loaders, waiting, against)


class Subject:
    """A training, and one step's micro-batches of its own, on which it is measured.

    Args:
        recipe: The resolved recipe.
        suffix: Of its scratch folder.

    Attributes:
        training: The training.
        images: Images of one step on this process.
    """

    def __init__(self, recipe: Recipe, suffix: str = ""):
        self.training = build_training(without_output(recipe, suffix))
        self.training.loader.fill_cache()  # later epochs are measured, not the first
        self.images = recipe.train.batch_size // self.training.accelerator.num_processes
        self.loaded = self.training.loader.iter_from(0)
        self.steps = itertools.count(1000)  # ten epochs in: past warm-ups and frozen layers
        raw = self.load()
        self.pixels = [self.training.augmentation(batch, self.training.accelerator.device) for batch in raw]
        self.batches = raw if self.training.cache else self.pixels

    def load(self) -> list[dict[str, Any]]:
        """The loader's next micro-batches of one step."""
        return [next(self.loaded) for _ in range(self.training.recipe.train.accumulation)]

    def floor(self) -> None:
        """The bare encoder on the crops of a step."""
        for batch in self.pixels:
            floor(self.training, batch)

    def step(self) -> None:
        """A step on the same micro-batches again."""
        step(self.training, self.batches, next(self.steps))

    def end_to_end(self) -> None:
        """A step on new micro-batches."""
        step(self.training, [prepared(self.training, batch) for batch in self.load()], next(self.steps))


def without_output(recipe: Recipe, suffix: str = "") -> Recipe:
    """The recipe with a scratch folder of this measurement's own, and no trackers."""
    changed = recipe.model_copy(deep=True)
    changed.train.output, changed.track.to = str(scratch_folder(suffix)), []
    return changed


def scratch_folder(suffix: str) -> Path:
    """Where a measurement's training may write: one for all its processes, which share their meeting point's port."""
    return Path(tempfile.gettempdir()) / f"hfcontrast_bench_{os.environ.get('MASTER_PORT', os.getpid())}{suffix}"


def prepared(training: Training, raw: dict[str, Any]) -> dict[str, Any]:
    """A loader's batch as :func:`step` takes it."""
    return raw if training.cache else training.augmentation(raw, training.accelerator.device)


def floor(training: Training, batch: dict[str, Tensor]) -> None:
    """The bare encoder on the same crops: forward and backward, each size in one pass; the teacher's forward where there is one.

    Of two towers both, the captions too; of a locked one whose features are kept nothing.
    """
    method, accelerator = training.method, training.accelerator
    released = {
        view.key: method.view_encoders[view.name] for view in training.views if view.name in method.view_encoders
    }
    pixels = {name: value for name, value in batch.items() if name in training.augmentation.keys}
    seen = {name: pixels.pop(name) for name in released if name in pixels}
    first = next(iter(pixels), "")
    with accelerator.autocast():
        for name, value in seen.items():
            getattr(method, released[name])(value.flatten(0, 1))
        features = [encode(method.encoder, value.flatten(0, 1)) for value in pixels.values()]
        if "input_ids" in batch:
            features.append(text_features(method.encoder, batch["input_ids"], batch.get("attention_mask")))
        for name in (name for name, source in method.teachers.items() if source == "encoder"):
            with torch.no_grad():
                encode(getattr(method, name), pixels[first].flatten(0, 1))
    accelerator.backward(sum(value.float().square().mean() for value in features))
    method.zero_grad()


def step(training: Training, batches: list[dict[str, Any]], number: int) -> None:
    """One optimizer step of the training loop on micro-batches as :func:`prepared` makes them."""
    optimizer_step = training.optimizer_step()
    optimizer_step.prepare = dict
    optimizer_step(batches, Progress(number, 1_000_000, 100))


def in_turn(tasks: dict[str, tuple[Callable[[], None], int]], seconds: float, device: torch.device) -> list[Timing]:
    """Runs all tasks in turn until the time is over; at least three rounds after the warm-up.

    Args:
        tasks: By name: what is measured, and the images that one round of it handles.
        seconds: The time.
        device: Where they run.
    """
    timings = [Timing(name, images) for name, (_, images) in tasks.items()]
    end = None
    for number in itertools.count():
        for timing, (task, _) in zip(timings, tasks.values()):
            _synchronize(device)
            before = time.perf_counter()
            task()
            _synchronize(device)
            if number >= WARM_UP:
                timing.seconds.append(time.perf_counter() - before)
        if number == WARM_UP - 1:
            end = time.perf_counter() + seconds
        if number >= WARM_UP + 2 and time.perf_counter() > end:
            return timings
    raise AssertionError("unreachable")


def waiting_share(subject: Subject, count: int = 8) -> float:
    """Share of the time of ``count`` steps that is spent waiting for the loader."""
    training, waited, begun = subject.training, 0.0, time.perf_counter()
    for _ in range(count):
        before = time.perf_counter()
        raw = subject.load()
        waited += time.perf_counter() - before
        step(training, [prepared(training, batch) for batch in raw], next(subject.steps))
    _synchronize(training.accelerator.device)
    return waited / (time.perf_counter() - begun)


def loader_speeds(training: Training, seconds: float) -> dict[str, float]:
    """Images/s and core: the loader with decoding and color augmentation, and torchvision's transforms on PIL images doing the same."""
    arguments = (training.rows, training.views, training.mean, training.std)
    known = training.loader.unreadable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [
            (loader_speed(*arguments, seconds / 6, known), torchvision_chain_speed(*arguments, seconds / 6))
            for _ in range(3)
        ]
    finally:
        torch.set_num_threads(threads)
    ours, chain = (statistics.median(values) for values in zip(*pairs))
    return {"loader alone, one core": ours, "torchvision on PIL, one core": chain}


def report(
    timings: list[Timing],
    memory: dict[str, int],
    loaders: dict[str, float],
    waiting: float,
    against: list[str] | None,
) -> dict[str, Any]:
    """Prints the table; returns its figures."""
    columns = ("measured", "images/s", "time of the floor", "peak memory, MiB")
    table = Table(*columns, title="median of rounds in turn; memory: what a step holds at most", title_justify="left")
    base = timings[0]
    for timing in timings:
        ratio = timing.of(base)
        mebibytes = f"{memory[timing.name] / 2**20:,.1f}"
        table.add_row(timing.name, f"{timing.speed:,.1f}", f"{ratio:.2f} x", mebibytes)
    ours, chain = loaders.values()
    for (name, speed), compared in zip(loaders.items(), (f"{ours / chain:.1f} x torchvision's speed", "")):
        table.add_row(name, f"{speed:,.1f}", compared, "")
    table.add_row("waiting for data, end to end", f"{100 * waiting:.1f} %", "", "")
    plain_console(width=120).print(table)
    figures = {timing.name: timing.speed for timing in timings} | loaders | {"waiting": waiting}
    figures["step / floor"] = timings[1].of(base)
    if against:
        gain = timings[1].of(timings[4])
        held = memory[timings[4].name] / memory[timings[1].name]
        print(
            f"{' '.join(against)}: the step is {gain:.2f} x as fast, image by image, and takes {held:.3f} x the memory"
        )
        figures |= {"gain": gain, "memory": held}
    return figures


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
