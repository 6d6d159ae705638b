"""Checks of a method after it is built and before it is trained: mostly for what could not be saved and loaded afterwards."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from transformers import PreTrainedModel

from ...errors import PluginError
from ...nn.random import generator_kept
from .declaration import called
from .modules import compiled_modules
from .settings import method_fields

if TYPE_CHECKING:
    from ..base import Method

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "peft")


def check_built(method: "Method") -> None:
    """Checks a fresh instance: before weights are loaded into it, adapters are added and it is prepared for training.

    Raises:
        PluginError: The first problem, and what to do about it.
    """
    for problem in _problems(method):
        raise PluginError(f"{called(type(method))}: {problem}")


def _problems(method: "Method") -> Iterator[str]:
    yield from _unfinished(method)
    yield from _hidden(method)
    yield from _unregistered(method)
    yield from _misnamed(method)
    yield from _shared(method)
    yield from _foreign_export(method)
    yield from _changing_settings(method)
    yield from _lost_buffers(method)
    if not any(parameter.requires_grad for parameter in method.parameters()):
        yield "none of its parameters is trainable (requires_grad)"


def _unfinished(method: "Method") -> Iterator[str]:
    if getattr(method, "_finished", None) is None:
        yield "its __init__ ends without self.post_init(), which initializes the weights and makes the teachers"
        return
    if later := [name for name, _ in method.named_parameters() if name not in method._finished]:
        yield f"{later[0]} was added after self.post_init(): call that last in __init__, as it initializes the weights"
    if lazy := [name for name, value in method.named_parameters() if is_lazy(value)]:
        yield f"{lazy[0]} has no size yet: a saved model is loaded by sizes, so give the layer its input size"


def _hidden(method: "Method") -> Iterator[str]:
    for name in (*method._modules, *method._parameters, *method._buffers):
        if hasattr(type(method), name):
            yield f"self.{name} is shadowed by {name} of the class: choose another name"


def _unregistered(method: "Method") -> Iterator[str]:
    known = {id(value) for value in method.parameters()}
    for path, module in own_modules(method):
        for name, value in vars(module).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            parts = [
                part
                for item in _items(value)
                for part in (item.parameters() if isinstance(item, nn.Module) else [item])
            ]
            if any(isinstance(part, nn.Parameter) and id(part) not in known for part in parts):
                yield (
                    f"the parameters in self.{path}{name} are not the method's, as it is a {type(value).__name__}: they are "
                    "neither trained nor saved; use nn.ModuleList, nn.ModuleDict or nn.ParameterList"
                )


def own_modules(method: "Method") -> Iterator[tuple[str, nn.Module]]:
    """The method and its heads with their paths, without encoders."""
    natives = [name for name, module in method.named_modules() if name and isinstance(module, PreTrainedModel)]
    for name, module in method.named_modules():
        if not any(name == native or name.startswith(f"{native}.") for native in natives):
            yield f"{name}." if name else "", module


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list | tuple) else []


def _misnamed(method: "Method") -> Iterator[str]:
    modules = dict(method.named_modules())
    names = ", ".join(name for name, _ in method.named_children() if name not in method.teachers)
    for name in method.constant_lr:
        parameters = (key for key, _ in method.named_parameters())
        if name not in modules and not any(key == name or key.startswith(f"{name}.") for key in parameters):
            yield f"constant_lr names {name!r}, and there is no such module; its modules are {names}"
    try:
        compiled = compiled_modules(method)
    except AttributeError as error:
        yield f"compiled_modules names what it does not have ({error}); its modules are {names}"
        return
    if wrong := [part for part in compiled if not isinstance(part, nn.Module)]:
        yield f"compiled_modules names a {type(wrong[0]).__name__}, expected a module or a ModuleList; its modules are {names}"


def _shared(method: "Method") -> Iterator[str]:
    owners: dict[int, str] = {}
    tied = method.get_expanded_tied_weights_keys(all_submodels=True)  # as transformers saves and loads them
    for name, value in method.state_dict(keep_vars=True).items():
        other = owners.setdefault(id(value), name)
        if tied.get(name, name) == other or tied.get(other) == name:
            continue
        if other.partition(".")[0] != name.partition(".")[0]:  # within an encoder it is part of the architecture
            yield (
                f"{other} and {name} are one tensor under two names, which cannot be saved: keep the module in one attribute "
                "only, and use it twice (a moving average is declared in `teachers`)"
            )


def _foreign_export(method: "Method") -> Iterator[str]:
    encoder = method.export_encoder()
    if not isinstance(encoder, PreTrainedModel) or isinstance(encoder, type(method)):
        yield f"export_encoder() returned {type(encoder).__name__}, expected the native transformers model"
        return
    own = {id(value) for value in method.state_dict(keep_vars=True).values()}
    foreign = [name for name, value in encoder.state_dict(keep_vars=True).items() if id(value) not in own]
    if foreign:
        yield (
            f"export_encoder() returned a model whose {foreign[0]} is not the method's: it is to be made of modules and "
            "parameters of this method, not of copies"
        )


def _changing_settings(method: "Method") -> Iterator[str]:
    config, kind = method.config, type(method.config)
    names = [field.name for field in method_fields(type(method))]
    for name in names:
        try:
            json.dumps(getattr(config, name))
        except (TypeError, ValueError) as error:
            yield f"config.json cannot hold the setting {name} = {getattr(config, name)!r} ({error}): take numbers, texts, lists"
    try:
        again = kind.from_dict(json.loads(config.to_json_string(use_diff=False)))
    except Exception as error:  # anything that checks of the configuration raise
        yield f"a saved {kind.__name__} cannot be read again: {' '.join(str(error).split())}"
        return
    for name in names:
        before, after = getattr(config, name), getattr(again, name)
        if json.dumps(before, sort_keys=True) != json.dumps(
            after, sort_keys=True
        ):  # a list instead of a tuple is fine where the type allows both
            yield (
                f"the setting {name} is {before!r} before saving and {after!r} after loading: __post_init__ must not change "
                "what it has changed already, and a type annotation must say what the value is"
            )


def _lost_buffers(method: "Method") -> Iterator[str]:
    unsaved = {
        f"{path}{name}": buffer
        for path, module in own_modules(method)
        if type(module).__module__.partition(".")[0] not in LIBRARIES
        for name, buffer in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set
    }
    if not unsaved:
        return
    try:
        loaded = dict(_loaded(method).named_buffers())
    except Exception as error:  # anything that __init__ raises where tensors have no values, as in loading
        yield f"it cannot be loaded again, which builds it on the meta device: {type(error).__name__}: {' '.join(str(error).split())}"
        return
    for name, buffer in unsaved.items():
        if not torch.equal(buffer.cpu(), loaded[name].cpu()):
            yield f"buffer {name} is persistent=False and is lost on loading: make it persistent, or fill it in reset_parameters"


def _loaded(method: "Method") -> "Method":
    """The method as it is loaded; uninitialized memory is NaN, or the largest integer."""
    strict, only_warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills = torch.utils.deterministic.fill_uninitialized_memory
    state = {name: value.detach().clone() for name, value in method.state_dict().items()}
    with generator_kept():
        try:
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = True
            return type(method).from_pretrained(None, config=method.config, state_dict=state)
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=only_warns)
            torch.utils.deterministic.fill_uninitialized_memory = fills
