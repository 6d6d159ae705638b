"""Progress, all that a method learns of time, and Phase, what it says of its own."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """All that a method learns of time.

    Args:
        step: Optimizer steps done so far.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps in one pass over the data.
        seed: The run's seed, for draws that are a function of it (see ``hfcontrast.nn.sample_uniform``).
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
    """Something that a training comes to at a certain step, and does not where it is too short.

    Args:
        setting: The setting that says when, by its path in the recipe ("method.queue_size"), or a short description.
        value: The setting's value, as the user gave it; None for what no setting says.
        step: Optimizer steps that have to be done before it. A training that is no longer never comes to it.
        otherwise: What is so in a training that is too short: the end of a sentence, such as "the prototypes never move".
    """

    setting: str
    value: float | int | None
    step: float
    otherwise: str

    def missed(self, total_steps: int) -> str | None:
        """One sentence where a training of so many steps does not come to it."""
        if total_steps > self.step:
            return None
        steps = math.ceil(self.step)
        value = "" if self.value is None else f" is {self.value:g}"
        count = "" if self.value == steps else f" ({steps} step{'s' if steps > 1 else ''})"
        total = f"{total_steps} step{'s' if total_steps > 1 else ''}"
        return f"{self.setting}{value}{count}, the training has {total}: {self.otherwise}"
