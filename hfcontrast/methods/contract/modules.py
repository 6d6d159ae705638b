"""The modules of a method: teachers, what stays in evaluation mode, what is compiled, and initial weights."""

import copy
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel

from ...errors import PluginError
from ...nn.ema import MomentumUpdate
from .declaration import called, check_modules, without_source
from .old_names import definer, follow_old_names, overridden


class ModulesOfMethod(PreTrainedModel):
    """The part of :class:`~hfcontrast.Method` about its modules; not to be used on its own.

    Attributes:
        teachers: Moving averages: name of the copy -> name of the module that it follows.
        compiled_modules: Paths of the modules that ``train.compile`` compiles, of a ``ModuleList`` each of its modules:
            declared where a method calls the encoder's layers itself. (): the encoder and its teachers.
    """

    teachers: dict[str, str] = {}
    compiled_modules: tuple[str, ...] = ()
    _momentum_update: MomentumUpdate | None = None
    _computing: bool = False
    _still: tuple[str, ...] = ()

    @torch.no_grad()
    def update_teachers(self, momentum: float) -> None:
        """Moves every teacher towards its source: ``teacher = momentum * teacher + (1 - momentum) * source``."""
        if self._computing:
            raise PluginError(
                f"{called(type(self))}: update_teachers() belongs in after_step(); a forward pass must not change state"
            )
        if self._momentum_update is None:
            pairs = [(getattr(self, name), getattr(self, source)) for name, source in self.teachers.items()]
            self._momentum_update = MomentumUpdate(pairs)
        self._momentum_update(momentum)

    def keep_in_eval_mode(self, *names: str) -> None:
        """Keeps modules in evaluation mode in every training step: no dropout, and batch statistics as they are.

        Args:
            names: Paths of modules, such as ``encoder.vision_model``; the teachers' copies of them are included.
        """
        check_modules(self, names, "keep_in_eval_mode")
        of_teachers = [
            teacher + name[len(source) :]
            for name in names
            for teacher, source in self.teachers.items()
            if name == source or name.startswith(f"{source}.")
        ]
        self._still += (*names, *of_teachers)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets the training mode. Teachers use batch statistics, as in the papers, but no dropout."""
        super().train(mode)
        for name in self.teachers:
            for module in getattr(self, name, nn.Module()).modules():
                module.training = mode and isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name in self._still:
            if hasattr(self, name.partition(".")[0]):  # post_init creates the teachers
                self.get_submodule(name).eval()
        return self

    def _init_weights(self, module: nn.Module) -> None:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()

    def _initialize_weights(self, module: nn.Module, *arguments: Any) -> None:
        # transformers passes over modules that have parameters in their submodules only, as heads do: their own
        # initialization comes here, after that of the submodules. What a checkpoint has given stays.
        super()._initialize_weights(module, *arguments)
        passed_over = not any(True for _ in (*module.parameters(False), *module.buffers(False)))
        given = all(getattr(value, "_is_hf_initialized", False) for value in module.parameters())
        if passed_over and not given and hasattr(module, "reset_parameters"):
            module.reset_parameters()


def copy_teachers(method: ModulesOfMethod) -> None:
    """Makes every teacher a copy of its source again, as after loading other weights, or adapters, into the encoder.

    Raises:
        PluginError: A source is not a module of the method.
    """
    own = overridden(method, "copy_teachers")
    own() if own else copies_made(method)


def copies_made(method: ModulesOfMethod) -> None:
    """What :func:`copy_teachers` does where a plugin's class has no ``copy_teachers`` of version 0.1."""
    for name, source in method.teachers.items():
        if not isinstance(getattr(method, source, None), nn.Module):
            raise PluginError(without_source(method, name, source))
        setattr(method, name, copy.deepcopy(getattr(method, source)).requires_grad_(False))
    method._momentum_update = None
    method.train(method.training)


def compiled_modules(method: ModulesOfMethod) -> list[nn.Module]:
    """The modules that ``train.compile`` compiles."""
    own, cls = overridden(method, "compiled_parts"), type(method)
    nearer = definer(cls, "compiled_parts") <= definer(cls, "compiled_modules")
    return own() if own and nearer else declared_modules(method)


def declared_modules(method: ModulesOfMethod) -> list[nn.Module]:
    """What the attribute ``compiled_modules`` names."""
    encoders = ["encoder", *(name for name, source in method.teachers.items() if source == "encoder")]
    return [module for name in method.compiled_modules or encoders for module in _modules_at(method, name)]


def _modules_at(method: ModulesOfMethod, path: str) -> Iterator[nn.Module]:
    found = attrgetter(path)(method)
    yield from found if isinstance(found, nn.ModuleList) else [found]


follow_old_names(ModulesOfMethod)
