"""Parameters that are frozen at the beginning of a training: declared by a method in ``frozen``, applied by dropping
gradients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ...errors import PluginError
from .calling import call_hook
from .declaration import called
from .old_names import definer
from .progress import Phase, Progress

if TYPE_CHECKING:
    from ..base import Method


@dataclass(frozen=True)
class Frozen:
    """How long parameters are frozen from the beginning of a training: until both counts have passed.

    Args:
        epochs: Passes over the data.
        steps: Optimizer steps.
        setting: The setting that decides it, by its path in the recipe ("method.freeze_last_layer_epochs"): a warning names it
            where the training is too short. None: no warning.
    """

    epochs: int = 0
    steps: int = 0
    setting: str | None = None

    def holds(self, progress: Progress) -> bool:
        """Whether the parameters are frozen in this step."""
        return progress.epoch < self.epochs or progress.step < self.steps

    def end(self, steps_per_epoch: int) -> int:
        """Optimizer steps after which they are updated."""
        return max(self.epochs * steps_per_epoch, self.steps)


def declared_frozen(method: "Method") -> dict[str, Frozen]:
    """What ``frozen`` returns, without entries of zero steps.

    Raises:
        PluginError: It is not a mapping from names of modules or parameters of the method to :class:`Frozen`.
    """
    found = call_hook(method, "frozen")
    if not isinstance(found, dict) or not all(isinstance(value, Frozen) for value in found.values()):
        raise PluginError(
            f"{called(type(method))}: frozen() returned {found!r:.80}, expected hfcontrast.Frozen by names of modules or "
            'parameters, such as {"head.last": Frozen(epochs=1)}, {} for none'
        )
    return {name: value for name, value in found.items() if value.end(1)}


def named_parameters(method: "Method", name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of the module, or the parameter, of this name.

    Raises:
        PluginError: The method has neither.
    """
    owner, _, last = name.rpartition(".")
    try:
        holder = method.get_submodule(owner)
        part = getattr(holder, last)
    except AttributeError as error:
        modules = ", ".join(child for child, _ in method.named_children())
        raise PluginError(
            f"{called(type(method))}: frozen() names {name!r}, which is not a module or parameter of it; its modules are {modules}"
        ) from error
    if isinstance(part, nn.Parameter):
        yield name, part
        return
    yield from ((f"{name}.{inner}", value) for inner, value in method.get_submodule(name).named_parameters())


def drop_frozen_gradients(method: "Method", progress: Progress) -> None:
    """Drops the gradients of the parameters that are frozen in this step, so that the optimizer skips them.

    Called after gradients are computed and clipped, before the optimizer's step. Without a gradient, a parameter is not decayed
    either, and its moments are not updated.
    """
    cls = type(method)
    # A plugin's after_backward, written for version 0.1, takes the place of the frozen() that it inherits.
    if definer(cls, "after_backward") >= definer(cls, "frozen"):
        after_backward(method, progress)
    if cls.after_backward is not after_backward:
        call_hook(method, "after_backward", progress)


def after_backward(method: "Method", progress: Progress) -> None:
    """The base class's hook ``after_backward`` of version 0.1."""
    for name, frozen in declared_frozen(method).items():
        if frozen.holds(progress):
            for _, parameter in named_parameters(method, name):
                parameter.grad = None


def frozen_phases(method: "Method", steps_per_epoch: int) -> list[Phase]:
    """The ends of frozen phases, one for each setting that decides them."""
    by_setting: dict[str, list[str]] = {}
    declared = declared_frozen(method)
    for name, frozen in declared.items():
        if frozen.setting:
            by_setting.setdefault(frozen.setting, []).append(name)
    phases = []
    for setting, names in by_setting.items():
        frozen = declared[names[0]]
        phases.append(
            Phase(
                setting,
                frozen.epochs or frozen.steps,
                frozen.end(steps_per_epoch),
                f"the weights of {' and '.join(names)} are never updated",
            )
        )
    return phases
