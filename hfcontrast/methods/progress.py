"""Progress: all that a method learns of time."""

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
