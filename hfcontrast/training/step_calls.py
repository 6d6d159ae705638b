"""The calls that a method needs around an optimizer step, in any loop: the step begins, outputs are collected, gradients are there, the step ends."""

from typing import Any

from torch import nn

from ..errors import ArgumentError, TrainingError
from ..methods.base import Method, MethodOutput, Progress
from ..methods.contract.calling import call_hook
from ..methods.contract.declaration import called
from ..methods.contract.freezing import drop_frozen_gradients
from ..methods.contract.steps import start_step
from ..nn.running_statistics import average_over_processes


class StepCalls:
    """What a loop calls around an optimizer step, so that teachers, queues, memory banks, centers, schedules and masks move.

    .. code-block:: python

        calls = StepCalls(method)
        for step, batch in enumerate(loader):
            calls.begin(Progress(step, total_steps, steps_per_epoch, seed=0))
            output = calls.collect(method(**batch))  # once a micro-batch
            output.loss.backward()
            calls.gradients_ready()  # after clipping
            optimizer.step()
            optimizer.zero_grad()
            calls.end()

    On several processes each makes the same calls: running statistics of batch normalization are averaged at the end of the step.

    Args:
        method: The method; of what an engine has wrapped around one the method inside.

    Raises:
        ArgumentError: There is no method in it.

    Attributes:
        outputs: What was collected in this step: one output a micro-batch, with loss, metrics and state, without graph and embeddings.
        progress: That of the step; None between two steps.
    """

    def __init__(self, method: Method):
        self.method = method_of(method, "StepCalls", "its argument")
        self.outputs: list[MethodOutput] = []
        self.progress: Progress | None = None
        self._gradients_ready = False

    def begin(self, progress: Progress) -> None:
        """Begins a step, before its forward passes; a step that is begun anew, as memory ran out, drops what was collected of it.

        Args:
            progress: Steps done so far, steps of the training, steps of an epoch, and the seed of the method's random numbers.

        Raises:
            ArgumentError: It is no ``Progress``, or the training has no more steps.
            TrainingError: The step before has not ended.
        """
        if not isinstance(progress, Progress):
            raise ArgumentError(
                f"begin() got {progress!r}, expected a Progress: begin(Progress(step, total_steps, steps_per_epoch, seed=0))"
            )
        if progress.step >= progress.total_steps:
            raise ArgumentError(
                f"begin() got step {progress.step} of a training of {progress.total_steps} steps, expected 0 to {progress.total_steps - 1}: "
                "Progress takes the steps done so far, then those of the whole training"
                if progress.total_steps
                else "begin() got a training of 0 steps: give Progress the steps of the whole training as total_steps"
            )
        if (before := self.progress) and self.outputs and (self._gradients_ready or before.step != progress.step):
            raise TrainingError(
                f"{called(type(self.method))}: begin() of step {progress.step} was called, and step {before.step} has not ended: call "
                "end() after optimizer.step(), else teachers, queues, memory banks and centers never move"
            )
        self.outputs, self.progress, self._gradients_ready = [], progress, False
        start_step(self.method, progress)

    def collect(self, output: MethodOutput) -> MethodOutput:
        """Notes the output of a micro-batch, and returns it.

        Raises:
            TrainingError: No step has begun, or it is no ``MethodOutput``.
        """
        self._begun("collect(output)")
        if not isinstance(output, MethodOutput):
            raise TrainingError(
                f"{called(type(self.method))}: collect() was given {type(output).__name__}, expected the MethodOutput of a forward pass "
                "(not a tuple: leave return_dict as it is)"
            )
        self.outputs.append(MethodOutput(loss=output.loss.detach(), metrics=output.metrics, state=output.state))
        return output

    def gradients_ready(self) -> None:
        """To be called after the backward passes and after clipping, before the optimizer's step: drops gradients of what is frozen."""
        drop_frozen_gradients(self.method, self._begun("gradients_ready()"))
        self._gradients_ready = True

    def end(self) -> None:
        """Ends the step, after the optimizer's: updates teachers, queues, memory banks and centers.

        Raises:
            TrainingError: No step has begun, or nothing was collected.
        """
        progress = self._begun("end()")
        if not self.outputs:
            raise TrainingError(
                f"{called(type(self.method))}: end() was called without an output: call collect(output) after every forward pass"
            )
        average_over_processes(self.method)
        call_hook(self.method, "after_step", self.outputs, progress)
        self.progress = None

    def _begun(self, call: str) -> Progress:
        if self.progress is None:
            raise TrainingError(
                f"{called(type(self.method))}: {call} was called before begin(progress), which begins every optimizer step"
            )
        return self.progress


def method_of(model: Any, caller: str, what: str) -> Method:
    """The method in a model, which an engine, ``torch.compile`` or peft may have wrapped.

    Args:
        model: The model.
        caller: Who looks for it, for the error.
        what: What the model is to that one, for the error.

    Raises:
        ArgumentError: There is none.
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    found = next((module for module in modules if isinstance(module, Method)), None)
    if found is None:
        raise ArgumentError(
            f"{caller}: {what} is {type(model).__name__}, expected a method of hfcontrast, such as SimCLR.from_encoder(encoder)"
        )
    return found
