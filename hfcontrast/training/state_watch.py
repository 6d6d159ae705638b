"""Finds tensors of a method that a step enlarges, or leaves with a graph: reported after the first step, not when a checkpoint is loaded."""

from ..errors import TrainingError
from ..methods.base import Method


class StateWatch:
    """Compares a method before its first step and after it.

    Args:
        method: The method, as it is trained.
    """

    def __init__(self, method: Method):
        self.method = method
        self.before = self._sizes()
        self.looked = False

    def _sizes(self) -> dict[str, tuple]:
        return {
            name: (tuple(value.shape), value.dtype) for name, value in self.method.state_dict(keep_vars=True).items()
        }

    def look(self) -> None:
        """Looks at the method after a step; only the first time.

        Raises:
            TrainingError: It could not be loaded from a checkpoint, or a teacher or buffer keeps the graph of the step alive.
        """
        if self.looked:
            return
        self.looked = True
        after = self._sizes()
        for name in sorted(self.before.keys() | after.keys()):
            if self.before.get(name) != after.get(name):
                raise TrainingError(
                    f"the first step changes size or type of {name}, from {self.before.get(name, 'nothing')} to "
                    f"{after.get(name, 'nothing')}: checkpoints of the method could not be loaded; make it in __init__, of a fixed size"
                )
        for name, value in (*self.method.named_parameters(), *self.method.named_buffers()):
            if value.grad_fn is not None:
                raise TrainingError(
                    f"the method's after_step() leaves {name} with a graph, which grows with every step: put what it does under "
                    "@torch.no_grad()"
                )
