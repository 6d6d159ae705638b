"""The encoder frozen in the first steps of a training, while the heads are warmed up: ``optim.freeze_encoder_steps``."""

from collections.abc import Collection

from torch import nn

from ..encoders.lora import lora_layers
from ..methods.base import Method


class FrozenEncoder:
    """Freezes the encoder in the first steps, for any method and engine: its gradients are dropped, as those of ``frozen()`` are.

    It is in evaluation mode then, and so are its teachers: batch statistics stay, and nothing is dropped out. What of it starts at random
    (projections beside two towers, a new token) is trained from the first step on, as heads are; adapters are not.

    Args:
        method: The method.
        steps: How many optimizer steps.
        loaded: Names of the encoder's tensors that have released weights; none: all of it starts at random, and is frozen.
    """

    def __init__(self, method: Method, steps: int, loaded: Collection[str] = ()):
        self.method, self.steps = method, steps
        adapted = tuple(f"{layer}." for layer in lora_layers(method.encoder))
        self.parameters: list[nn.Parameter] = [
            value
            for name, value in method.encoder.named_parameters()
            if not loaded or name in loaded or (adapted and name.startswith(adapted))
        ]
        self._held = False

    def holds(self, step: int) -> bool:
        """Whether the encoder is frozen in the step after so many."""
        return step < self.steps

    def set_modes(self, step: int) -> None:
        """Sets the training modes for the step after so many."""
        if self.holds(step):
            self._held = True
            for name in ("encoder", *(name for name, source in self.method.teachers.items() if source == "encoder")):
                getattr(self.method, name).eval()
        elif self._held:
            self._held = False
            self.method.train()

    def drop_gradients(self, step: int) -> None:
        """Drops the encoder's gradients, so that the optimizer passes it over."""
        if self.holds(step):
            for parameter in self.parameters:
                parameter.grad = None
