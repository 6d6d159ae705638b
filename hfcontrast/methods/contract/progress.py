"""Progress: the state of the training, as methods see it; Phase: something that begins at a certain step."""

import math
from dataclasses import dataclass, field
from typing import Any

from ...errors import ArgumentError

ENDED = 0.1  # share of a phase below which what is left of it is too little for a longer training
RETURN = 0.1  # share of the steps to go in which it is taken back then

Lengths = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Progress:
    """The state of the training, as methods see it.

    Args:
        step: Optimizer steps done so far.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps in one pass over the data.
        seed: The run's seed, of which random numbers are a function (see ``hfcontrast.nn.sample_uniform``).
        lengths: Of a training whose length was changed on the way: from which step on it had how many steps in all, beginning with
            step 0. Empty: it was never changed.

    Raises:
        ArgumentError: A count is no whole number or below 0, or an epoch has no steps.
    """

    step: int
    total_steps: int
    steps_per_epoch: int = field(default=1)
    seed: int = field(default=0)
    lengths: Lengths = field(default=())

    def __post_init__(self) -> None:
        for name, least in (("step", 0), ("total_steps", 0), ("steps_per_epoch", 1), ("seed", None)):
            value = getattr(self, name)
            if not _is_whole(value) or (least is not None and value < least):
                expected = "a whole number" if least is None else f"a whole number, {least} or more"
                raise ArgumentError(f"{name}: Progress got {value!r}, expected {expected}", name)
            object.__setattr__(self, name, int(value))  # of numpy, or 1e5

    @property
    def epoch(self) -> int:
        """Passes over the data completed so far."""
        return self.step // self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Elapsed share of the training, in [0, 1]; where its length was changed, it continues from what had elapsed, without a jump."""
        if self.lengths:
            return elapsed_share(self.step, self.lengths)
        return min(self.step / max(self.total_steps, 1), 1.0)

    def epochs(self, count: float) -> float:
        """Elapsed share, in [0, 1], of a phase that lasts ``count`` epochs from the start; 1 when ``count`` is 0."""
        return 1.0 if count <= 0 else min(self.epoch / count, 1.0)


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") or (isinstance(value, float) and value.is_integer())


def elapsed_share(step: int, lengths: Lengths, start: int = 0) -> float:
    """Elapsed share, in [0, 1], of a phase from a step to the end of a training whose length was changed on the way.

    From a change on, what is left of the phase is stretched over the steps to go. Where less than a tenth is left of it and the training
    becomes longer, the phase is taken back first, within a tenth of the steps to go, to where it would be in a training of that length.

    Args:
        step: Optimizer steps done.
        lengths: See :class:`Progress`.
        start: The step at which the phase begins.
    """
    (_, end), *changes = lengths
    bends = [(start, 0.0), (end, 1.0)]
    for here, new in changes:
        if here > step:
            break
        if here > start:
            share = _between(here, bends)
            bends, to_go = [(here, share)], new - here
            if new > end and 1 - share < ENDED:
                back = here + max(round(RETURN * to_go), 1)
                bends.append((back, (back - start) / (new - start)))
        else:
            bends = [(start, 0.0)]
        bends.append((new, 1.0))
        end = new
    return _between(step, bends)


def _between(step: int, bends: list[tuple[int, float]]) -> float:
    """A piecewise linear function, constant before its first and after its last bend."""
    if step <= bends[0][0]:
        return bends[0][1]
    for (begin, first), (end, last) in zip(bends, bends[1:]):
        if step < end:
            return first + (last - first) * (step - begin) / (end - begin)
    # a training that was ended where it stood has not come to the end of its phases
    return bends[-1][1] if bends[-1][0] > bends[0][0] else bends[0][1]


@dataclass(frozen=True)
class Phase:
    """Something that begins or is complete at a certain step: a training that is shorter never reaches it.

    Args:
        setting: The setting that decides when, by its path in the recipe ("method.queue_size"), or a short description.
        value: The setting's value, as the user gave it; None where no setting decides.
        step: Optimizer steps before it. A training with no more steps than that never reaches it.
        otherwise: The consequence for a training that is too short, as the end of a sentence: "the prototypes are never updated".
    """

    setting: str
    value: float | int | None
    step: float
    otherwise: str

    def missed(self, total_steps: int) -> str | None:
        """A message if a training with this many steps does not reach it, else None."""
        if total_steps > self.step:
            return None
        steps = math.ceil(self.step)
        value = "" if self.value is None else f" is {self.value:g}"
        count = "" if self.value == steps else f" ({steps} step{'s' if steps > 1 else ''})"
        total = f"{total_steps} step{'s' if total_steps > 1 else ''}"
        return f"{self.setting}{value}{count}, the training has {total}: {self.otherwise}"
