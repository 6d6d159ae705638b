"""The optimizer step that the training loop, ``hfcontrast bench`` and the contract suite share."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from ..methods.base import Method, MethodOutput, Progress
from ..nn.distributed import world_size
from .batch_size import too_few_to_normalize
from .frozen_encoder import FrozenEncoder
from .optim import clip_each_gradient
from .schedules import set_schedules
from .step_calls import StepCalls

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..recipe.optimization import OptimSection
    from .grad_cache import GradientCache


class PlainEngine:
    """What a step asks of an ``Accelerator``, without one: full precision, one micro-batch, gradients averaged over processes."""

    sync_gradients = True

    @contextlib.contextmanager
    def accumulate(self, model: nn.Module) -> Iterator[None]:
        """The block of a micro-batch of this model."""
        self._model = model
        yield

    def backward(self, loss: Tensor) -> None:
        """Backward pass of the loss; the gradients are then averaged over the processes, as DistributedDataParallel does."""
        loss.backward()
        if world_size() == 1:
            return
        for parameter in self._model.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size()

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Nothing: the gradients are not scaled."""

    def clip_grad_norm_(self, parameters: Iterable[Tensor], max_norm: float) -> None:
        """Scales all gradients down to a common L2 norm of at most ``max_norm``."""
        nn.utils.clip_grad_norm_(parameters, max_norm)


@dataclass
class StepResult:
    """What a step leaves.

    Attributes:
        outputs: One a micro-batch, with loss, metrics and state; without graph and embeddings.
        embeddings: Of the last micro-batch, detached, as the method returned them; None where it returns none.
        lr: Learning rate of the groups that follow the schedule.
    """

    outputs: list[MethodOutput]
    embeddings: Tensor | None
    lr: float

    @property
    def loss(self) -> Tensor:
        """Mean loss of the micro-batches of this process, a scalar."""
        return torch.stack([output.loss for output in self.outputs]).mean()


def _as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    return batch


@dataclass
class OptimizerStep:
    """One optimizer step of a method: schedules, micro-batches, clipping, frozen parameters, optimizer, state.

    Attributes:
        method: The method itself; its hooks are called.
        optimizer: As the engine has prepared it.
        engine: The accelerator, which knows precision, loss scaling, accumulation and processes.
        model: The method as the engine has prepared it; None: the method itself.
        settings: The recipe's ``optim`` section, for schedules and clipping; None leaves the optimizer's groups as they are and
            clips nothing.
        batch_size: Images of a step over all processes and micro-batches, by which ``optim.scale_lr`` scales.
        cache: Computes the gradients of a micro-batch piece by piece (``train.grad_cache``); it is given what the loader yields.
        prepare: Makes what the model takes of what the loader yields.
        on_gradients: Called with the steps done before, when all gradients are there and before they are clipped.
        frozen: Freezes the encoder in the first steps, where the recipe asks for it.
        lr_factor: What all learning rates are multiplied by, beside their schedule.
    """

    method: Method
    optimizer: Optimizer
    engine: "Accelerator | PlainEngine" = field(default_factory=PlainEngine)
    model: nn.Module | None = None
    settings: "OptimSection | None" = None
    batch_size: int = 1
    cache: "GradientCache | None" = None
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_is
    on_gradients: Callable[[int], None] | None = None
    frozen: FrozenEncoder | None = None
    lr_factor: float = 1.0

    def __call__(self, batches: Iterable[dict[str, Any]], progress: Progress) -> StepResult:
        """Takes the step.

        Args:
            batches: The micro-batches: as many as the engine accumulates.
            progress: Where the training is.
        """
        model = self.method if self.model is None else self.model
        lr, calls, embeddings = self.set_schedules(progress), StepCalls(self.method), None
        calls.begin(progress)
        if self.frozen:
            self.frozen.set_modes(progress.step)
        for batch in batches:
            with self.engine.accumulate(model), too_few_to_normalize():
                output = self.backward(model, batch)
                if self.engine.sync_gradients:
                    if self.on_gradients:
                        self.on_gradients(progress.step)
                    self.clip(model)
                    calls.gradients_ready()
                    if self.frozen:
                        self.frozen.drop_gradients(progress.step)
                self.optimizer.step()
                self.optimizer.zero_grad()
            embeddings = calls.collect(output).embeddings
        calls.end()
        return StepResult(calls.outputs, embeddings, lr)

    def backward(self, model: nn.Module, batch: dict[str, Any]) -> MethodOutput:
        """Forward and backward pass of a micro-batch: adds to the gradients."""
        if self.cache:
            return self.cache.backward(batch)
        output = model(**self.prepare(batch))
        self.engine.backward(output.loss)
        return output

    def set_schedules(self, progress: Progress) -> float:
        """Sets learning rates and weight decays of the step in the optimizer; returns the learning rate."""
        if self.settings is None:
            return self.optimizer.param_groups[0]["lr"]
        return set_schedules(
            self.optimizer,
            self.settings,
            progress.step,
            progress.total_steps,
            progress.steps_per_epoch,
            self.batch_size,
            progress.lengths,
            self.lr_factor,
        )

    def clip(self, model: nn.Module) -> None:
        """Clips the gradients as ``optim.clip_grad_norm`` says: by their common norm, or with ``clip_each`` each by its own."""
        if self.settings is None or self.settings.clip_grad_norm is None:
            return
        if self.settings.clip_each:
            self.engine.unscale_gradients(self.optimizer)
            clip_each_gradient(list(model.parameters()), self.settings.clip_grad_norm)
        else:
            self.engine.clip_grad_norm_(model.parameters(), self.settings.clip_grad_norm)
