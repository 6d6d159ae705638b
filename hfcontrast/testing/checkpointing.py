"""A check of gradient checkpointing, where the encoder computes its activations twice."""

import copy

import torch
from torch import Tensor

from ..methods.base import Method, Progress
from ..methods.contract.checkpointing import ENABLE
from ..methods.contract.steps import start_step
from .draws import nothing_dropped
from .violation import require


def check_checkpointing(method: Method, batch: dict[str, Tensor]) -> None:
    """With gradient checkpointing a step has the same loss and gradients; skipped where the encoder has none."""
    if not method.supports_gradient_checkpointing:
        return
    expected = _loss_and_gradients(copy.deepcopy(method), batch)
    recomputed = copy.deepcopy(method)
    getattr(recomputed, ENABLE)()
    found = _loss_and_gradients(recomputed, batch)
    require(found.keys() == expected.keys(), "other parameters get gradients under gradient checkpointing")
    for name, value in expected.items():
        error, scale = (found[name] - value).abs().max().item(), value.abs().max().item()
        require(
            error <= 1e-3 * scale + 1e-6,
            f"{name} is another one under gradient checkpointing (by {error:.1e}, with a largest entry of {scale:.1e}): the encoder's "
            "layers run a second time in the backward pass, so hooks and layers must do the same then",
        )


def _loss_and_gradients(method: Method, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    method.zero_grad()
    start_step(method, Progress(0, 10, 5))
    with nothing_dropped(method), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of stochastic depth
        loss = method(**batch).loss
        loss.backward()
    gradients = {name: value.grad for name, value in method.named_parameters() if value.grad is not None}
    return {"the loss": loss.detach(), **{f"the gradient of {name}": value for name, value in gradients.items()}}
