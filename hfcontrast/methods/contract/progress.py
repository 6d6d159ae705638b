"""Progress: the state of the training, as methods see it; Phase: something that begins at a certain step."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """The state of the training, as methods see it.

    Args:
        step: Optimizer steps done so far.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps in one pass over the data.
        seed: The run's seed, of which random numbers are a function (see ``hfcontrast.nn.sample_uniform``).
    """

    step: int
    total_steps: int
    steps_per_epoch: int = field(default=1)
    seed: int = field(default=0)

    @property
    def epoch(self) -> int:
        """Passes over the data completed so far."""
        return self.step // self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Elapsed share of the training, in [0, 1]."""
        return min(self.step / max(self.total_steps, 1), 1.0)

    def epochs(self, count: float) -> float:
        """Elapsed share, in [0, 1], of a phase that lasts ``count`` epochs from the start; 1 when ``count`` is 0."""
        return 1.0 if count <= 0 else min(self.epoch / count, 1.0)


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
