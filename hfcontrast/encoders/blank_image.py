"""One blank image through an encoder, for facts about its outputs that no configuration gives; the random state is unchanged."""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import ArgumentError, out_of_memory
from ..nn.random import generator_kept
from .families import family_of
from .pretrained import reason

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

_PLAIN = (bool, int, float, str, tuple)
_WITH_CACHES = {"generate_relative_position_index"}
_SIDES = (64, 224, 256, 384, 512)  # in pixels, where the configuration names none


@contextlib.contextmanager
def in_eval_mode(encoder: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, each module back in its own mode afterwards; the random state is left unchanged.

    So are settings that modules change themselves, as Swin makes its windows smaller for a small image, and keeps them so.
    """
    states = {module: _settings(module) for module in encoder.modules()}
    device = next(encoder.parameters()).device
    uncached = _without_caches(encoder) if device.type == "meta" else []
    try:
        with torch.no_grad(), generator_kept(device):
            encoder.eval()
            yield
    finally:
        for module, state in states.items():
            if _settings(module) != state:
                vars(module).update(state)
        for module, name in uncached:
            delattr(module, name)


def _settings(module: nn.Module) -> dict[str, Any]:
    """The plain values among a module's attributes, its mode among them; others and private ones are those of libraries around it."""
    return {name: value for name, value in vars(module).items() if name[0] != "_" and isinstance(value, _PLAIN)}


def _without_caches(encoder: nn.Module) -> list[tuple[nn.Module, str]]:
    """Lets static methods of modules that remember their results compute them anew; returns the modules and names that were set.

    BEiT's family keeps its relative positions for all models of the process, by the size alone: from the device ``meta`` the next
    model would get positions without values, and read memory that nobody has written.
    """
    found = []
    for module in encoder.modules():
        for name in _WITH_CACHES & set(dir(type(module))):
            method = inspect.getattr_static(type(module), name)
            if isinstance(method, staticmethod) and hasattr(method.__func__, "__wrapped__"):
                setattr(module, name, method.__func__.__wrapped__)
                found.append((module, name))
    return found


def on_blank_image(
    encoder: PreTrainedModel,
    compute: Callable[[PreTrainedModel, Tensor], T],
    sizes: Sequence[int] = (),
    build: bool = True,
) -> T:
    """What a function of the encoder and of an image (1, C, H, W) returns for a blank one, of the first size that it takes.

    Args:
        encoder: The encoder; it stays as it is.
        compute: The function.
        sizes: Sides of images in pixels to try first, such as those of the views.
        build: An encoder without memory for its weights that cannot be run so is built with random ones.

    Raises:
        ArgumentError: The encoder takes no image of the sizes that are tried.
    """
    problem: Exception | None = None
    for size in _sizes(encoder, sizes):
        try:
            return _compute(encoder, compute, size)
        except (MemoryError, ArgumentError):
            raise
        except Exception as error:  # every architecture fails in its own way over what it cannot take
            if out_of_memory(error):
                raise
            problem = problem or error
    assert problem is not None
    if build and needs_memory(problem) and next(encoder.parameters()).is_meta:
        with generator_kept(), torch.device("cpu"):
            real = type(encoder)(copy.deepcopy(encoder.config))
        return on_blank_image(real, compute, sizes)
    name = getattr(encoder.config, "architecture", None) or encoder.config.model_type
    height, width = _sizes(encoder, sizes)[0]
    why = family_of(encoder).size_problem(encoder, height) if height == width else None
    raise ArgumentError(f"{name!r} gives no features of an image: {why or reason(problem)}") from problem


def on_meta(encoder: M) -> M:
    """A copy of a module on the device ``meta``: without memory for its weights, to be run for the shapes of its outputs."""
    tensors = [*encoder.parameters(), *encoder.buffers()]
    twins: dict[int, Any] = {id(tensor): _empty(tensor) for tensor in tensors}
    return copy.deepcopy(encoder, twins)


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def needs_memory(error: BaseException | None) -> bool:
    """Whether a computation failed because its tensors have no values, on the device ``meta``, and not for another reason."""
    return isinstance(error, NotImplementedError) or "meta" in str(error).lower()


def _compute(encoder: PreTrainedModel, compute: Callable[[PreTrainedModel, Tensor], T], size: tuple[int, int]) -> T:
    parameter = next(encoder.parameters())
    with in_eval_mode(encoder), torch.device(parameter.device):
        channels = family_of(encoder).channels(encoder)
        return compute(encoder, torch.zeros(1, channels, *size, dtype=parameter.dtype))


def _sizes(encoder: PreTrainedModel, first: Sequence[int]) -> list[tuple[int, int]]:
    """Heights and widths to try: those that are given, that of the configuration, then common ones."""
    own = family_of(encoder).image_size(encoder)
    sides = [*first, *([own] if own else []), *_SIDES]
    return [(side, side) if isinstance(side, int) else tuple(side[-2:]) for side in sides]
