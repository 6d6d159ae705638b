"""LightningMethod: a method as a ``LightningModule``. Needs the package ``lightning`` (the extra ``hfcontrast[lightning]``)."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from accelerate.utils import convert_to_fp32
from torch import Tensor
from torch.optim import Optimizer

from ..errors import ArgumentError, TrainingError
from ..methods.base import Method, Progress
from ..nn.batch_norm import synchronize_batch_norm
from ..nn.distributed import world_size
from ..training.step_calls import StepCalls
from .loaders import set_epoch

try:
    from lightning.pytorch import LightningModule
except ImportError as error:
    raise ImportError("LightningMethod needs the package lightning: pip install 'hfcontrast[lightning]'") from error


class LightningMethod(LightningModule):
    """Trains a method in Lightning: teachers, queues, memory banks, centers, schedules and masks move as in a run.

    .. code-block:: python

        model = LightningMethod(method, lambda method: torch.optim.AdamW(method.parameters(), lr=1e-3))
        Trainer(max_epochs=100).fit(model, DataLoader(ViewDataset("/my/images", method.views), batch_size=256))
        model.method.export_encoder().save_pretrained("encoder")

    Precision, accumulation, clipping and devices are those of the ``Trainer``; on several of them weights must not be shared out
    (``strategy="ddp"``). The loss and the method's metrics are logged at each micro-batch, and a dataset with ``set_epoch`` is told the epoch.

    Args:
        method: The method.
        optimizer: Makes, of the method, what ``configure_optimizers`` may return for one optimizer; None where a subclass defines
            ``configure_optimizers``.
        seed: Of the method's random numbers.
        sync_batchnorm: Whether batch normalization sees the batches of all processes, as in a run; then leave ``Trainer(sync_batchnorm=...)``
            as it is.
    """

    def __init__(
        self,
        method: Method,
        optimizer: Callable[[Method], Any] | None = None,
        seed: int = 0,
        sync_batchnorm: bool = True,
    ):
        super().__init__()
        if not isinstance(method, Method):
            raise ArgumentError(f"LightningMethod: expected a method of hfcontrast, got {type(method).__name__}")
        if optimizer is not None and not callable(optimizer):
            raise ArgumentError(
                f"LightningMethod: optimizer is {type(optimizer).__name__}, expected a function that makes one of the method: "
                "lambda method: torch.optim.AdamW(method.parameters(), lr=1e-3)"
            )
        self.method = method
        self.make_optimizer, self.seed, self.synchronized = optimizer, seed, sync_batchnorm
        self._steps = StepCalls(method)

    def configure_optimizers(self) -> Any:
        """What ``optimizer`` makes."""
        if self.make_optimizer is None:
            raise ArgumentError(
                "LightningMethod has no optimizer: give one, as in LightningMethod(method, lambda method: "
                "torch.optim.AdamW(method.parameters(), lr=1e-3)), or define configure_optimizers in a subclass"
            )
        return self.make_optimizer(self.method)

    def setup(self, stage: str) -> None:
        """Before the model is wrapped: batch normalization over the batches of all processes."""
        if stage == "fit" and self.synchronized and world_size() > 1:
            synchronize_batch_norm(self.method, cuda=self.trainer.strategy.root_device.type == "cuda")

    def forward(self, **batch: Tensor) -> Any:
        """The method's output for a batch."""
        return self.method(**batch)

    def on_train_start(self) -> None:
        """Sees what a method cannot be trained with.

        Raises:
            ArgumentError: There are several optimizers, whose steps are counted together.
        """
        if len(self.trainer.optimizers) != 1:
            raise ArgumentError(
                f"LightningMethod trains with one optimizer, and configure_optimizers returned {len(self.trainer.optimizers)}: use "
                "parameter groups"
            )
        self._steps = StepCalls(self.method)  # a training before may have been interrupted within a step
        self._tell_epoch()

    def on_train_epoch_start(self) -> None:
        """Tells the dataset the epoch, of which its views are a function."""
        self._tell_epoch()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Begins a step with its first micro-batch."""
        if self._steps.progress is None:
            self._steps.begin(self._progress())

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a micro-batch.

        Raises:
            ArgumentError: The batch has no names.
        """
        if not isinstance(batch, Mapping):
            raise ArgumentError(
                f"LightningMethod: the batch is a {type(batch).__name__}, expected a dict of the entries that {type(self.method).__name__} takes, "
                "such as pixel_values (B, V, C, H, W), as a loader of ViewDataset has them"
            )
        output = self.method(**batch)
        if "mixed" in str(self.trainer.precision):  # as accelerate does
            output = convert_to_fp32(output)
        self._steps.collect(output)
        images = len(next(value for value in batch.values() if isinstance(value, Tensor)))
        self.log("loss", output.loss.detach(), prog_bar=True, batch_size=images)
        self.log_dict(dict(output.metrics or {}), batch_size=images)
        return output.loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as the ``Trainer`` says, then drops the gradients of what is frozen."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self._steps.gradients_ready()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """The optimizer's step, which ends that of the method: before callbacks, which may save a checkpoint of it."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self._steps.end()

    def _progress(self) -> Progress:
        trainer = self.trainer
        total, batches = trainer.estimated_stepping_batches, trainer.num_training_batches
        if total in (-1, float("inf")):
            raise TrainingError(
                "LightningMethod: schedules of a method need the length of the training: set max_steps or max_epochs of the Trainer "
                "(max_steps where the dataset has no length)"
            )
        finite = batches != float("inf")
        each = -(-int(batches) // trainer.accumulate_grad_batches) if finite else int(total)
        step = trainer.global_step
        return Progress(
            step, max(int(total), step + 1), max(each, 1), self.seed
        )  # epochs may be longer than Lightning has thought

    def _tell_epoch(self) -> None:
        epoch = self.trainer.current_epoch
        for loader in _loaders(self.trainer.train_dataloader):
            known = getattr(getattr(loader, "dataset", None), "epoch", epoch)
            if known not in (epoch, epoch - 1):  # Lightning has begun to read before it says the epoch
                warnings.warn(
                    f"the training resumes in epoch {epoch}, and the loader has prepared its first batches with the views of epoch "
                    f"{known}: call set_epoch({epoch}) of the dataset before Trainer.fit(..., ckpt_path=...)",
                    UserWarning,
                    stacklevel=2,
                )
            set_epoch(loader, epoch)


def _loaders(given: Any) -> list[Any]:
    """The loaders of a ``Trainer``, which takes one, or several in lists and dicts."""
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, list | tuple):
        return [loader for one in given for loader in _loaders(one)]
    return [given]
