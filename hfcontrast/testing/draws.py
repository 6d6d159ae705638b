"""Checks of a step's random numbers: apart from dropout, they must be a function of seed, sample, and epoch or step."""

import contextlib
import copy
import random
from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..methods.base import Method, Progress
from ..methods.contract.steps import start_step
from .violation import require


@contextlib.contextmanager
def in_evaluation_mode(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Puts layers in evaluation mode, and those that were in training mode back afterwards."""
    held = [layer for layer in layers if layer.training]
    for layer in held:
        layer.training = False
    try:
        yield
    finally:
        for layer in held:
            layer.training = True


def nothing_dropped(method: Method) -> contextlib.AbstractContextManager[None]:
    """A context without dropout."""
    return in_evaluation_mode(layer for layer in method.modules() if isinstance(layer, nn.modules.dropout._DropoutNd))


def drawn_by_a_step(method: Method, batch: dict[str, Tensor]) -> str:
    """A message if a step, apart from dropout, draws from a global generator; empty if it does not."""
    python, numpys, of_torch = random.getstate(), cast(tuple, np.random.get_state()), torch.get_rng_state()
    with torch.no_grad(), nothing_dropped(method):
        method(**batch)
    moved = {
        "torch": not torch.equal(of_torch, torch.get_rng_state()),
        "numpy": any(not np.array_equal(old, new) for old, new in zip(numpys, np.random.get_state())),
        "Python": python != random.getstate(),
    }
    names = [name for name, drew in moved.items() if drew]
    if not names:
        return ""
    return (
        f"a step draws from the generator of {' and '.join(names)}, whose numbers differ between processes and in a resumed run: "
        "draw with self.random_uniform(index, ...), which gives each sample its own"
    )


def check_draws(method: Method, batch: dict[str, Tensor]) -> None:
    """Apart from dropout, a step draws from no global generator: its numbers are a function of seed, sample, and epoch or
    step."""
    method = copy.deepcopy(method)
    start_step(method, Progress(3, 10, 5, seed=1))
    drawn = drawn_by_a_step(method, batch)
    require(not drawn, drawn)
