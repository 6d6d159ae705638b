"""Loading of saved methods, beyond transformers: refuses folders of other methods, and completes teachers."""

import contextlib
import copy
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor
from transformers import PreTrainedConfig

from ...encoders.pretrained import missing_keys
from ...errors import ArgumentError, PluginError
from ...nn.random import generator_kept
from .declaration import called

if TYPE_CHECKING:
    from ..base import Method

_PLACE = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")


def check_model_type(cls: "type[Method]", source: Any, options: dict[str, Any]) -> None:
    """Checks that a folder was saved by this method: transformers would load another one with newly initialized heads.

    Args:
        cls: The method.
        source: The folder or the name on the Hub; None where only a state dict is loaded.
        options: Those of ``from_pretrained``.

    Raises:
        PluginError: config.json names another ``model_type``.
    """
    if source is None or options.get("config") is not None:
        return  # the caller decides
    places = {name: options[name] for name in _PLACE if name in options}
    found = PreTrainedConfig.get_config_dict(source, **places)[0].get("model_type")
    expected = cls.config_class.model_type
    if found is not None and found != expected:
        raise PluginError(
            f"{called(cls)} loads models with the model_type {expected!r}, and {str(source)!r} has {found!r}: use the method "
            "that saved it, or AutoModel.from_pretrained, which finds it"
        )


def make_whole(model: "Method", info: dict[str, Any]) -> None:
    """Completes what a checkpoint does not have, and freezes what the method's ``__init__`` has frozen.

    A teacher without any tensor becomes a copy of its source; all else gets the values of a new method.

    Args:
        model: As transformers has loaded it.
        info: What ``from_pretrained`` returned for ``output_loading_info=True``.

    Raises:
        PluginError: Its ``__init__`` has not called ``post_init``.
        ArgumentError: What is missing was to be read from the disk.
    """
    if model._finished is None:
        raise PluginError(f"{called(type(model))}: its __init__ ends without self.post_init(), which loading needs")
    missing = missing_keys(info)
    on_disk = [module for module, place in (getattr(model, "hf_device_map", None) or {}).items() if place == "disk"]
    unread = [
        name
        for name in sorted(missing)
        if any(module in ("", name) or name.startswith(f"{module}.") for module in on_disk)
    ]
    if unread:
        raise ArgumentError(
            f"device_map: {unread[0]!r} is to be read from the disk, and the checkpoint has neither it nor {len(unread) - 1} others: map "
            "their modules to cpu"
        )
    _draw(model, missing)
    for name, source in model.teachers.items():
        own = {f"{name}.{key}" for key in getattr(model, name).state_dict()}
        if own and own <= missing:
            with contextlib.ExitStack() as in_memory:
                for module in getattr(model, source).modules():  # whose own tensors may lie on a disk
                    in_memory.enter_context(align_module_device(module))
                getattr(model, name).load_state_dict(getattr(model, source).state_dict())
    for name in model._frozen:  # transformers makes every parameter that it loads trainable
        model.get_parameter(name).requires_grad_(False)


@torch.no_grad()
def _draw(model: "Method", missing: Collection[str]) -> None:
    # transformers draws the layers that it knows, by rules of its own; what it does not know would be whatever the memory held.
    state = {name: value for name, value in model.state_dict().items() if name in missing and not value.is_meta}
    if not state:
        return
    with generator_kept():
        new = type(model)(copy.deepcopy(model.config)).state_dict()
    for name, value in state.items():
        if name in new and value.shape == new[name].shape:  # not of adapters, or what an engine has cut into shards
            value.copy_(new[name])


def with_own_names(model: "Method", state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A state dict under the names of the model's modules: files of ``save_pretrained`` have those that an architecture had at first.

    transformers translates them in ``from_pretrained`` only, and its ``Trainer`` loads a checkpoint by ``load_state_dict``: tensors of
    other names would be left as they were.

    Args:
        model: The method that is to load it.
        state: Tensors by name; what no name is known for is handed on.
    """
    own = model.state_dict().keys()
    if own >= state.keys():
        return state
    with generator_kept():
        try:
            loaded, info = type(model).from_pretrained(
                None, config=model.config, state_dict=dict(state), output_loading_info=True
            )
        except Exception:  # it is no state of this method, which torch says in its own words
            return state
    absent = {*missing_keys(info), *state}
    found = {name: value for name, value in loaded.state_dict().items() if name not in absent}
    unknown = {*info["unexpected_keys"], *own}
    return {**found, **{name: value for name, value in state.items() if name in unknown}}


def teachers_updated(model: "Method") -> bool:
    """Whether ``update_teachers`` has been called since the teachers were copied."""
    return model._momentum_update is not None
