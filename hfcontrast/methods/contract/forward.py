"""``forward`` of a method: its signature, made of the arguments of ``embed`` and ``objective``, and checks of the batch that it is given."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import ArgumentError
from .arguments import OF_A_BATCH, needed_columns, required
from .output import MethodOutput

if TYPE_CHECKING:
    from ..base import Method

# What collators, tokenizers and transformers' Trainer add to a batch, beside what every batch of ours has: passed over where no step
# has such an argument.
PASSED_OVER = (
    *OF_A_BATCH,
    "label",
    "label_ids",
    "token_type_ids",
    "special_tokens_mask",
    "length",
    "num_items_in_batch",
)
_VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def declare_forward(cls: "type[Method]", base: "type[Method]") -> None:
    """Gives a class a ``forward`` whose signature names the entries of a batch, as transformers' ``Trainer`` and others read it.

    A ``forward`` that an author has written stays. ``main_input_name`` becomes the first entry.

    Args:
        cls: The method, when its class is made.
        base: ``Method``.
    """
    names = [name for name, parameter in _entries(cls).items() if parameter.kind not in _VARIABLE]
    if names and "main_input_name" not in vars(cls):
        cls.main_input_name = names[0]
    found = inspect.getattr_static(cls, "forward")
    if found is base.forward or getattr(found, "made_of_steps", False):
        cls.forward = _forward(cls, base)


def checked_batch(method: "Method", values: tuple[Any, ...], batch: dict[str, Any]) -> dict[str, Any]:
    """The entries of a batch by name.

    Args:
        method: The method.
        values: What ``forward`` got by position.
        batch: What it got by name.

    Raises:
        ArgumentError: A tensor has a name that no step knows, an entry is missing, or images come without the dimension of views.
    """
    entries = _entries(type(method))
    named = [name for name, parameter in entries.items() if parameter.kind not in _VARIABLE]
    if values and isinstance(values[0], Mapping):
        raise ArgumentError(
            f"{_called(method)} takes the entries of a batch: call it as method(**batch), and not method(batch)"
        )
    if values:
        batch = _by_position(method, named, values, batch)
    if len(named) == len(entries):  # else a step takes anything
        known = {*named, *(view.key for view in method.views), *needed_columns(type(method)), *PASSED_OVER}
        for name, value in batch.items():
            if name not in known and _has_tensors(value):
                raise ArgumentError(_unknown(method, name, named), name)
    needed = dict.fromkeys((*required(method.embed, 0), *required(method.objective, 1)))
    for name in needed:
        if batch.get(name) is None:
            given = ", ".join(key for key, value in batch.items() if value is not None) or "nothing"
            raise ArgumentError(
                f"{name}: {_called(method)} needs it, {_meaning(method, name)}; the batch has {given}", name
            )
    for key in dict.fromkeys(view.key for view in method.views):
        value = batch.get(key)
        if value is None or key not in entries:
            continue
        if not isinstance(value, Tensor):
            raise ArgumentError(
                f"{key}: {_called(method)} takes a tensor (B, V, C, H, W), and got {type(value).__name__}: torch.as_tensor makes one of an "
                "array, torch.stack of a list of tensors",
                key,
            )
        if value.ndim in (3, 4):
            raise ArgumentError(_without_views(method, key, value), key)
    _check_index(method, batch.get("index"))
    return batch


def returned(output: MethodOutput, return_loss: bool, as_dict: bool) -> MethodOutput | tuple[Any, ...]:
    """The output of a step in the form that was asked for.

    Args:
        output: That of ``objective``.
        return_loss: Whether the loss is part of it.
        as_dict: Whether it stays a :class:`~hfcontrast.MethodOutput`; else a tuple of its entries that are not None, the loss first.
    """
    if not return_loss:
        output = MethodOutput(metrics=output.metrics, state=output.state, embeddings=output.embeddings)
    return output if as_dict else output.to_tuple()


def _entries(cls: "type[Method]") -> dict[str, inspect.Parameter]:
    """The arguments of the steps that are entries of a batch, the main one first; with ``**kwargs`` where a step has them."""
    if not (callable(cls.embed) and callable(cls.objective)):
        return {}  # which the checks of the class refuse
    steps = [
        list(inspect.signature(step).parameters.values())[own:] for step, own in ((cls.embed, 1), (cls.objective, 2))
    ]
    found: dict[str, inspect.Parameter] = {}
    for parameter in (parameter for arguments in steps for parameter in arguments):
        if parameter.kind is not parameter.VAR_POSITIONAL:
            found.setdefault("**" if parameter.kind is parameter.VAR_KEYWORD else parameter.name, parameter)
    keys = [view.key for view in cls.views] if isinstance(cls.views, tuple) else []
    if "**" in found:
        anything = found.pop("**")
        for key in keys:
            found.setdefault(key, inspect.Parameter(key, anything.KEYWORD_ONLY, default=None, annotation=Tensor))
        found[anything.name] = anything
    main = next((key for key in keys if key in found), None)
    return {main: found[main], **found} if main else found


def _forward(cls: "type[Method]", base: "type[Method]") -> Callable[..., Any]:
    """``base.forward`` with the signature of a class."""
    usual = inspect.signature(base.forward).parameters
    options = [usual[name] for name in ("return_loss", "return_dict")]
    entries = [
        parameter.replace(
            kind=parameter.POSITIONAL_OR_KEYWORD,
            default=None if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in _entries(cls).items()
        if parameter.kind not in _VARIABLE and name not in usual
    ]
    anything = [parameter for parameter in _entries(cls).values() if parameter.kind is parameter.VAR_KEYWORD]

    def forward(self: "Method", *values: Any, **batch: Any) -> Any:
        return base.forward(self, *values, **batch)

    forward.__doc__ = base.forward.__doc__
    forward.__qualname__, forward.__module__ = f"{cls.__qualname__}.forward", cls.__module__
    by_keyword = [option.replace(kind=option.POSITIONAL_OR_KEYWORD) for option in options]
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [usual["self"], *entries, *by_keyword, *anything],
        return_annotation=inspect.signature(base.forward).return_annotation,
    )
    forward.made_of_steps = True  # type: ignore[attr-defined]
    return forward


def _by_position(method: "Method", named: list[str], values: tuple[Any, ...], batch: dict[str, Any]) -> dict[str, Any]:
    if len(values) > len(named):
        raise ArgumentError(
            f"{_called(method)} takes {', '.join(named)}; {len(values)} were given by position: pass them by name"
        )
    placed = dict(zip(named, values))
    if twice := next((name for name in placed if name in batch), None):
        raise ArgumentError(f"{twice}: {_called(method)} got it twice, by position and by name", twice)
    return placed | batch


def _check_index(method: "Method", index: Any) -> None:
    """Refuses positions beyond a memory bank, where they can be read without a wait for a device."""
    images = getattr(method.config, "num_images", None)
    if images is None or not isinstance(index, Tensor) or index.device.type != "cpu" or not index.numel():
        return
    if (last := int(index.max())) >= images:
        raise ArgumentError(
            f"index: {_called(method)} was made for num_images={images} images, and got position {last} (positions begin with 0): give the "
            "number of all images of the data set, num_images=len(views)",
            "index",
        )


def _unknown(method: "Method", name: str, named: list[str]) -> str:
    near = difflib.get_close_matches(name, named, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{name}: no step of {_called(method)} takes such a tensor; it takes {', '.join(named)}.{hint}"


def _without_views(method: "Method", key: str, value: Tensor) -> str:
    missing = "that of the views" if value.ndim == 4 else "those of the batch and of the views"
    views = sum(view.count for view in method.views if view.key == key)
    how = (
        f"{key}.unsqueeze(1)"
        if views == 1 and value.ndim == 4
        else "torch.stack([view_1, view_2], dim=1) of augmented views (B, C, H, W)"
    )
    return (
        f"{key}: {_called(method)} takes (B, V, C, H, W), all views of an image, and got {tuple(value.shape)}, which lacks a dimension, "
        f"{missing}: pass {how}"
    )


def _meaning(method: "Method", name: str) -> str:
    known = {view.key: "the views of the images, (B, V, C, H, W)" for view in method.views} | {
        "index": "(B,) the images' positions in their data set",
        "labels": "(B,) class numbers, -1 where there is none",
        "input_ids": "(B, T) the tokens of the captions",
    }
    return known.get(name, "(B, ...), an entry for each image")


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value)
    )


def _called(method: "Method") -> str:
    return type(method).__name__
