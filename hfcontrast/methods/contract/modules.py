"""The modules of a method: teachers, what stays in evaluation mode, what is compiled, and initial weights."""

import copy
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...errors import PluginError
from ...nn.ema import MomentumUpdate
from ...nn.transformer import TransformerBlocks
from . import checkpointing
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
        if not self.teachers:
            raise PluginError(
                f"{called(type(self))}: update_teachers() was called, and the method declares no teachers"
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

    def post_init(self) -> None:
        """As in transformers; ``device_map`` leaves on one device what models within the encoder and beside it want so."""
        super().post_init()
        models = [module for module in self.modules() if isinstance(module, PreTrainedModel)]
        self._no_split_modules = {kind for model in models for kind in model._no_split_modules or ()}

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

    def get_input_embeddings(self) -> nn.Module | None:
        """Those of the encoder; None where it has none, as engines that ask for them expect."""
        try:
            return self.encoder.get_input_embeddings()
        except NotImplementedError:  # of a convolutional encoder
            return None

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Sets those of the encoder."""
        self.encoder.set_input_embeddings(value)

    def set_attn_implementation(self, attn_implementation: str | dict, *values: Any, **options: Any) -> None:
        """As in transformers: of the encoder, of its copies, and of blocks that a method has of its own.

        Args:
            attn_implementation: Its name; a dict names it for ``backbone_config``.
            values: As in transformers.
            options: As in transformers.
        """
        wanted = attn_implementation
        if isinstance(wanted, dict):
            wanted = wanted.get("backbone_config", wanted.get("", self.encoder.config._attn_implementation))
        self.encoder.set_attn_implementation(wanted, *values, **options)
        self.config._attn_implementation = {"": self.encoder.config._attn_implementation, "backbone_config": {}}
        for name, source in self.teachers.items():
            for copied, followed in zip(getattr(self, name).modules(), getattr(self, source).modules()):
                if isinstance(copied, PreTrainedModel):
                    copied.config._attn_implementation = followed.config._attn_implementation
        for module in self.modules():
            if isinstance(module, TransformerBlocks):
                module.set_attention(self.encoder.config._attn_implementation)

    def _set_gradient_checkpointing(self, enable: bool = True, **options: Any) -> None:
        checkpointing.set_recomputed(self, enable, options)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not hasattr(module, "reset_parameters"):
            return
        tensors = [*module.parameters(), *module.buffers()]
        if tensors and all(map(_settled, tensors)):
            return
        loaded = [(tensor, tensor.clone()) for tensor in tensors if _settled(tensor) and not tensor.is_meta]
        module.reset_parameters()
        for tensor, value in loaded:
            tensor.copy_(value)

    def _initialize_weights(self, module: nn.Module, *arguments: Any) -> None:
        # transformers passes over modules that have parameters in their submodules only, as heads do: their own
        # initialization comes here, after that of the submodules. What a checkpoint has given stays.
        super()._initialize_weights(module, *arguments)
        passed_over = not any(True for _ in (*module.parameters(False), *module.buffers(False)))
        if passed_over and not all(map(_settled, module.parameters())):
            self._init_weights(module)


def _settled(tensor: Tensor) -> bool:
    """Whether a tensor has its value from a checkpoint, be it that the value lies on a disk: its weights are not to be drawn."""
    return tensor.is_meta or getattr(tensor, "_is_hf_initialized", False)


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
        checkpointing.keep_activations(getattr(method, name))
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


setattr(ModulesOfMethod, checkpointing.ENABLE, checkpointing.enable)
follow_old_names(ModulesOfMethod)
