"""MethodCallback: a method's steps in transformers' ``Trainer``."""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import ArgumentError, LauncherError
from ..methods.base import Method, MethodOutput, Progress
from ..nn.batch_norm import synchronize_batch_norm
from ..nn.distributed import world_size
from ..training.step_calls import StepCalls, method_of
from .loaders import set_epoch, steps_per_epoch
from .metrics import mean_metrics

_INSTEAD = "start plain data parallelism, with `torchrun --nproc_per_node N` or `accelerate launch --multi_gpu`"


class MethodCallback(TrainerCallback):
    """Takes a method's steps in transformers' ``Trainer``: teachers, queues, memory banks, centers, schedules and masks move as in a run.

    ``Trainer(model=method, ..., callbacks=[MethodCallback()])``. Before each optimizer step it tells the method of the progress, collects the
    output of every micro-batch, drops the gradients of what is frozen after clipping, and calls ``after_step`` after the optimizer's step.
    The method's metrics are logged beside the loss, and a dataset with ``set_epoch`` is told the epoch. State lies in the method's
    checkpoint, so that ``resume_from_checkpoint`` continues with it.

    Optimizer, schedule of the learning rate, clipping, precision and accumulation are the Trainer's.

    Args:
        seed: Of the method's random numbers; None: ``TrainingArguments.seed``.
        steps_per_epoch: Optimizer steps in an epoch; None: by the length of the Trainer's loader. Needed where that has none.
        sync_batchnorm: Whether batch normalization sees the batches of all processes, as in a run.
    """

    def __init__(self, seed: int | None = None, steps_per_epoch: int | None = None, sync_batchnorm: bool = True):
        self.seed, self.steps_per_epoch, self.sync_batchnorm = seed, steps_per_epoch, sync_batchnorm
        self._calls: StepCalls | None = None
        self._collecting: Any = None  # the handle of the hook
        self._outputs: list[MethodOutput] = []
        self._prepared: Method | None = None
        self._training: TrainerState | None = None

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Looks at the engine, and prepares the method before the model is wrapped.

        Raises:
            ArgumentError: There is no method in the model, or ``label_smoothing_factor`` is set, with which the Trainer takes the labels
                out of the batch.
            LauncherError: The Trainer was started with an engine in which a method's state would be another one.
        """
        check_engine(args)
        if args.label_smoothing_factor:
            raise ArgumentError(
                f"MethodCallback: label_smoothing_factor is {args.label_smoothing_factor}, with which the Trainer takes the labels out of the "
                "batch and computes a loss of its own: leave it at 0, as the loss is the method's"
            )
        self._prepare(_method_of(model), args)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Begins to listen to the method's forward passes.

        Raises:
            ArgumentError: Another ``MethodCallback`` takes the same steps; and what :meth:`on_init_end` raises, as this one may have been
                added later.
            LauncherError: As :meth:`on_init_end`.
        """
        self.on_init_end(args, state, control, model)
        method = _method_of(model)
        for other in [*map(_callback_of, method._forward_hooks.values())]:
            if other and other._training is state:
                raise ArgumentError(
                    "the Trainer has more than one MethodCallback, and each would take every step of the method: give one alone, "
                    "callbacks=[MethodCallback()]"
                )
            if other:
                other._stop()  # of a training that was interrupted
        self._stop()
        self._training = state  # each training has a state of its own
        self._calls = StepCalls(method)
        self._collecting = self._calls.method.register_forward_hook(self._collect)

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Tells the dataset the epoch, of which its views are a function; accelerate does not where the sampler is told."""
        set_epoch(train_dataloader, int(state.epoch or 0))

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Begins the step."""
        each = self.steps_per_epoch or steps_per_epoch(train_dataloader, args.gradient_accumulation_steps)
        seed = args.seed if self.seed is None else self.seed
        self._stepping.begin(Progress(state.global_step, state.max_steps, each or max(state.max_steps, 1), seed))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drops the gradients of what is frozen, which has been clipped with the others."""
        self._stepping.gradients_ready()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ends the step."""
        self._stepping.end()
        self._outputs = self._stepping.outputs

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Adds the metrics of the last step to what is logged with its loss, on all processes together."""
        if logs is None or "loss" not in logs or not self._outputs:
            return
        metrics = mean_metrics(self._outputs)
        self._outputs = []
        for record in (logs, *state.log_history[-1:]):
            record.update({name: value for name, value in metrics.items() if name not in record})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops listening."""
        self._stop()

    def _prepare(self, method: Method, args: TrainingArguments) -> None:
        if world_size() == 1 or self._prepared is method:
            return
        self._prepared = method
        if self.sync_batchnorm:
            synchronize_batch_norm(method)
        if args.ddp_broadcast_buffers is None:  # equal by themselves; running statistics are averaged after every step
            args.ddp_broadcast_buffers = False

    @property
    def _stepping(self) -> StepCalls:
        if self._calls is None:
            raise ArgumentError(
                "MethodCallback was added while the Trainer trained: give it in callbacks=[MethodCallback()]"
            )
        return self._calls

    def _collect(self, method: Method, _inputs: tuple, output: MethodOutput) -> None:
        if method.training and torch.is_grad_enabled() and self._stepping.progress is not None:
            self._stepping.collect(output)

    def _stop(self) -> None:
        if self._collecting is not None:
            self._collecting.remove()
        self._collecting, self._calls, self._outputs, self._training = None, None, [], None


def _method_of(model: Any) -> Method:
    return method_of(model, "MethodCallback", "the Trainer's model")


def _callback_of(hook: Any) -> MethodCallback | None:
    """The callback that listens by a hook; None where it is another hook."""
    owner = getattr(hook, "__self__", None)
    return owner if isinstance(owner, MethodCallback) else None


def check_engine(args: TrainingArguments) -> None:
    """Refuses engines that share out the weights, as runs do, and copies of the model on several GPUs of one process.

    Raises:
        LauncherError: With what to do instead.
    """
    engine = "DeepSpeed" if args.deepspeed else "FSDP" if args.fsdp else ""
    if engine:
        raise LauncherError(
            f"MethodCallback: the Trainer was told to train with {engine}, with which a method's state is not what it should be: {_INSTEAD}"
        )
    if args.n_gpu > 1:
        raise LauncherError(
            f"MethodCallback: the Trainer would train {args.n_gpu} copies of the model in one process (DataParallel), whose state would be lost: "
            f"{_INSTEAD}, or set CUDA_VISIBLE_DEVICES to one GPU"
        )
