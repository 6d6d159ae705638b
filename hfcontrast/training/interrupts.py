"""Early ends of a training: a signal, or a loss that is not finite. All processes stop at the same step."""

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import TrainingError
from ..nn.distributed import world_size
from ..signals import handling, note


class Watch:
    """Turns signals into a flag, and asks at every step whether to continue.

    The answer about a step's loss is read one step later, so that an accelerator is not made to wait; :meth:`settle`
    reads it at once, before anything is saved. Used as a context manager, which restores the former signal handlers.
    """

    def __enter__(self) -> "Watch":
        self._signal = 0  # that came to this process
        self._agreed = 0  # that all processes know of
        self._pending: tuple[int, Tensor] | None = None
        self._handling = handling(self._remember)
        self._handling.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._handling.__exit__(*exception)

    @property
    def asked(self) -> int:
        """The signal that asked this process or, as far as they have told each other, all of them to stop; or 0."""
        return self._signal or self._agreed

    def _remember(self, number, _frame) -> None:
        self._signal = self._signal or number
        note(number)

    def step(self, step: int, loss: Tensor) -> int:
        """Notes the loss of a step; returns the signal that all processes are to stop for, or 0.

        Raises:
            TrainingError: The loss of the step before is not finite.
        """
        flags = torch.stack([(~torch.isfinite(loss)).float(), torch.full_like(loss, self._signal).float()])
        if world_size() > 1:
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        self.settle()
        self._pending = (step, flags)
        return self._agreed if world_size() > 1 else self._signal

    def settle(self) -> None:
        """Reads what is still unread.

        Raises:
            TrainingError: The loss was not finite.
        """
        if self._pending is None:
            return
        (step, flags), self._pending = self._pending, None
        broken, number = flags.tolist()
        if broken:
            raise TrainingError(
                f"the loss of step {step} is not a finite number; nothing was saved after it. Lower optim.lr, lengthen "
                "the warm-up (optim.warmup_epochs), clip the gradient (optim.clip_grad_norm), or use train.precision=fp32"
            )
        self._agreed = max(self._agreed, int(number))
