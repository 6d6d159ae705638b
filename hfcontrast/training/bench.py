"""``hfcontrast bench``: how fast a recipe trains on this machine, and how much of that is the encoder itself.

Everything is measured in turn, round after round in one process, so that a noisy machine disturbs all alike; medians and
ratios are printed.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from ..console import plain_console
from ..data.speed import loader_speed, torchvision_chain_speed
from ..methods.base import Progress
from ..nn.encoder import encode
from ..nn.two_towers import text_features
from ..recipe import Recipe, load_recipe
from .loop import clip, detached
from .memory import memory_of
from .schedules import set_schedules
from .setup import Training, build_training

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


def bench(recipe: Recipe, seconds: float = 60.0, against: list[str] | None = None) -> dict[str, Any]:
    """Measures a recipe and prints a table.

    Args:
        recipe: The resolved recipe.
        seconds: Time for the rounds, beside building and warm-up.
        against: Overrides: a second training, changed so, whose floor and step are measured in the same rounds.

    Returns:
        The figures: images/s by name, and the ratios.
    """
    training = build_training(without_output(recipe))
    images = recipe.train.batch_size // recipe.train.accumulation // training.accelerator.num_processes
    batches = training.loader.iter_from(0)
    raw = next(batches)
    batch = training.photometry(raw, training.accelerator.device)
    steps = itertools.count(1000)  # ten epochs in: past warm-ups and frozen layers
    tasks = {
        "encoder alone (the floor)": lambda: floor(training, batch),
        "whole training step": lambda: step(training, raw if training.cache else batch, next(steps)),
        "end to end": lambda: step(training, prepared(training, next(batches)), next(steps)),
    }
    if against:
        other = build_training(without_output(load_recipe(recipe.to_dict(), against)))
        changed = " ".join(against)
        tasks[f"encoder alone, {changed}"] = lambda: floor(other, batch)
        tasks[f"whole training step, {changed}"] = lambda: step(other, raw if other.cache else batch, next(steps))
    timings = in_turn(tasks, images, seconds, training.accelerator.device)
    memory = {name: memory_of(task, training.accelerator.device) for name, task in tasks.items()}
    waiting = waiting_share(training, batches, steps)
    loaders = loader_speeds(training, min(seconds / 6, 10.0))
    return report(timings, memory, loaders, waiting, against)


def without_output(recipe: Recipe) -> Recipe:
    """The recipe with an output folder that no run has used, and no trackers."""
    changed = recipe.model_copy(deep=True)
    changed.train.output, changed.track.to = "outputs/.bench", []
    return changed


def prepared(training: Training, raw: dict[str, Any]) -> dict[str, Any]:
    """A loader's batch as :func:`step` takes it."""
    return raw if training.cache else training.photometry(raw, training.accelerator.device)


def floor(training: Training, batch: dict[str, Tensor]) -> None:
    """The bare encoder on the same crops: forward and backward, each size in one pass; the teacher's forward where there is one.

    Of two towers both, the captions too.
    """
    method, accelerator = training.method, training.accelerator
    pixels = {name: value for name, value in batch.items() if name in training.photometry.keys}
    first = next(iter(pixels))
    with accelerator.autocast():
        features = [encode(method.encoder, value.flatten(0, 1)) for value in pixels.values()]
        if "input_ids" in batch:
            features.append(text_features(method.encoder, batch["input_ids"], batch.get("attention_mask")))
        for name in (name for name, source in method.teachers.items() if source == "encoder"):
            with torch.no_grad():
                encode(getattr(method, name), pixels[first].flatten(0, 1))
    accelerator.backward(sum(value.float().square().mean() for value in features))
    method.zero_grad()


def step(training: Training, batch: dict[str, Tensor], number: int) -> None:
    """One whole optimizer step of the training loop on a batch that is on the device; with gradient caching on a loader's."""
    method, optimizer, settings = training.method, training.optimizer, training.recipe.train
    progress = Progress(number, 1_000_000, 100)
    set_schedules(optimizer, training.recipe.optim, number, 1_000_000, 100, settings.batch_size)
    method.start_step(progress)
    if training.cache:
        output = training.cache.backward(batch)
    else:
        output = training.model(**batch)
        training.accelerator.backward(output.loss)
    clip(training)
    method.after_backward(progress)
    optimizer.step()
    optimizer.zero_grad()
    method.after_step([detached(output)], progress)


def in_turn(tasks: dict[str, Callable[[], None]], images: int, seconds: float, device: torch.device) -> list[Timing]:
    """Runs all tasks in turn until the time is over; at least three rounds after the warm-up."""
    timings = [Timing(name, images) for name in tasks]
    end = None
    for number in itertools.count():
        for timing, task in zip(timings, tasks.values()):
            _synchronise(device)
            before = time.perf_counter()
            task()
            _synchronise(device)
            if number >= WARM_UP:
                timing.seconds.append(time.perf_counter() - before)
        if number == WARM_UP - 1:
            end = time.perf_counter() + seconds
        if number >= WARM_UP + 2 and time.perf_counter() > end:
            return timings
    raise AssertionError("unreachable")


def waiting_share(
    training: Training, batches: Iterator[dict[str, Tensor]], steps: Iterator[int], count: int = 8
) -> float:
    """Share of the time of ``count`` steps that is spent waiting for the loader."""
    waited, begun = 0.0, time.perf_counter()
    for _ in range(count):
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        step(training, prepared(training, batch), next(steps))
    _synchronise(training.accelerator.device)
    return waited / (time.perf_counter() - begun)


def loader_speeds(training: Training, seconds: float) -> dict[str, float]:
    """Images/s and core: the loader with decoding and photometry, and torchvision's transforms on PIL images doing the same."""
    arguments = (training.rows, training.views, training.mean, training.std)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [
            (loader_speed(*arguments, seconds / 6), torchvision_chain_speed(*arguments, seconds / 6)) for _ in range(3)
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
        ratio = statistics.median(a / b for a, b in zip(timing.seconds, base.seconds))
        held = f"{memory[timing.name] / 2**20:,.1f}"
        table.add_row(timing.name, f"{timing.speed:,.1f}", f"{ratio:.2f} x", held)
    ours, chain = loaders.values()
    for (name, speed), ratio in zip(loaders.items(), (f"{ours / chain:.1f} x torchvision's speed", "")):
        table.add_row(name, f"{speed:,.1f}", ratio, "")
    table.add_row("waiting for data, end to end", f"{100 * waiting:.1f} %", "", "")
    plain_console(width=120).print(table)
    figures = {timing.name: timing.speed for timing in timings} | loaders | {"waiting": waiting}
    figures["step / floor"] = statistics.median(a / b for a, b in zip(timings[1].seconds, base.seconds))
    if against:
        gain = statistics.median(a / b for a, b in zip(timings[1].seconds, timings[4].seconds))
        held = memory[timings[4].name] / memory[timings[1].name]
        print(f"{' '.join(against)}: the step is {gain:.2f} x as fast and takes {held:.3f} x the memory")
        figures |= {"gain": gain, "memory": held}
    return figures


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
