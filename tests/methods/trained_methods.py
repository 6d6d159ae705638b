"""A small instance of every installed method whose tensors all differ from what ``__init__`` makes, and what is compared of it."""

import contextlib
import copy
import functools
from collections.abc import Iterator

import torch
from every_method import batch_of, small
from torch import Tensor, nn

from hfcontrast.methods.base import Method, Progress
from hfcontrast.methods.contract import steps
from hfcontrast.methods.contract.steps import start_step


@functools.cache
def _fresh(name: str) -> Method:
    return small(name)


def fresh(name: str) -> Method:
    """A copy of it as it is built, in training mode."""
    return copy.deepcopy(_fresh(name))


@functools.cache
def _trained(name: str) -> Method:
    method = fresh(name)
    with torch.no_grad():
        for value in method.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value), alpha=0.01)  # running variances stay positive
            elif value.ndim == 0 and value.dtype is not torch.bool:
                value.add_(1)  # counters
            elif bool((value < 0).all()):
                value.zero_()  # clusters that images belong to
    start_step(method, Progress(0, 10, 5))
    return method.eval()


def trained(name: str) -> Method:
    """A copy of it, in evaluation mode."""
    return copy.deepcopy(_trained(name))


def results(method: Method, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a method makes of a batch: embeddings, loss, metrics and state, without gradients."""
    with torch.no_grad():
        output = method(**batch)
        found = {f"embed: {name}": value for name, value in steps.embed(method, batch).items()}
    for part in ("metrics", "state"):
        found |= {f"{part}: {name}": value for name, value in (getattr(output, part) or {}).items()}
    return {"loss": output.loss, **found}


def assert_same_results(method: Method, expected: Method, name: str, **tolerance: float) -> None:
    """Two methods make the same of a batch, up to rounding."""
    batch = batch_of(name)
    for one in (method, expected):
        start_step(one, Progress(0, 10, 5))
    torch.testing.assert_close(results(method, batch), results(expected, batch), **tolerance)


def tensors(method: Method) -> dict[str, Tensor]:
    """Parameters and buffers by name, those that are not saved too."""
    return {**dict(method.named_parameters()), **dict(method.named_buffers())}


def assert_same_tensors(method: Method, expected: Method, without: str | None = None) -> None:
    """Two methods have equal tensors, bit by bit, and the same of them are trained."""
    found, wanted = tensors(method), tensors(expected)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].requires_grad == value.requires_grad, name
        assert name == without or torch.equal(found[name], value), name


def shared(method: nn.Module) -> list[list[str]]:
    """Groups of names of one tensor."""
    groups: dict[int, list[str]] = {}
    for name, value in method.state_dict(keep_vars=True).items():
        if value.numel():
            groups.setdefault(value.data_ptr(), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


@contextlib.contextmanager
def uninitialized_memory_is_nan() -> Iterator[None]:
    """``torch.empty`` gives NaN, and of integers the largest."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]
