"""Parameters that no gradient reaches: named after the first step, instead of by torch's own error on several processes."""

from ..errors import TrainingError
from ..methods.base import Method
from ..nn.distributed import world_size

_NAMED = 3


class GradientWatch:
    """Looks for trained parameters without a gradient after the backward pass of a step.

    On one process they are never updated, and are named once. Data parallelism waits for their gradients, and torch stops at the
    next forward pass: there they are an error, at any step.

    Args:
        method: The method, as it is trained.
    """

    def __init__(self, method: Method):
        self.trained = [(name, value) for name, value in method.named_parameters() if value.requires_grad]
        self.looked = False

    def look(self, step: int) -> str | None:
        """Looks at the gradients of a step, once they are there and before they are used.

        Args:
            step: Optimizer steps done before.

        Returns:
            What to tell the user, or None.

        Raises:
            TrainingError: Some have none, and several processes train.
        """
        if self.looked and world_size() == 1:
            return None
        self.looked = True
        without = [name for name, value in self.trained if value.grad is None and value.requires_grad]
        if not without:
            return None
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        text = (
            f"in step {step + 1} no gradient reaches {', '.join(without[:_NAMED])}{more}: freeze it (requires_grad_(False)) or "
            "use it in every step"
        )
        if world_size() > 1:
            raise TrainingError(f"{text}; several processes cannot train with it")
        return f"warning: {text}; it stays as it is, and training on several processes would stop"
