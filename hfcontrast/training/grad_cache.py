"""Gradient caching: the gradients of the whole batch in the memory of a small one (Gao et al., 2021, arXiv:2101.06983).

A contrastive loss needs the embeddings of the whole batch, but not the encoder's activations of the whole batch at one time.
So the batch is embedded in pieces without a graph; the loss of all embeddings gives their gradients; then every piece is
embedded again, with a graph this time and the same masks of dropout, and takes its share of those gradients backwards.
Exact, for one more forward pass, wherever ``embed`` does not mix samples; where it does, by batch normalization in training
mode, gradients of pieces are others than those of the batch, and the cache refuses.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from ..data.augment.color import SUFFIX, ColorAugmentation
from ..errors import RecipeError
from ..methods.base import Method, MethodOutput
from ..methods.contract.steps import embed, objective
from ..nn.distributed import world_size
from ..nn.running_statistics import batch_norm_layers, statistics_apart


class GradientCache:
    """Computes the gradients of a step piece by piece.

    Args:
        method: The method itself, not what wraps it.
        accelerator: Gives the precision and scales the loss.
        augmentation: Makes floats of a piece's crops; the whole batch is never held as floats.
        rows: Samples of a piece.
    """

    def __init__(self, method: Method, accelerator: Accelerator, augmentation: ColorAugmentation, rows: int):
        self.method = method
        self.accelerator = accelerator
        self.augmentation = augmentation
        self.rows = rows
        self._looked = False

    def backward(self, batch: dict[str, Any]) -> MethodOutput:
        """Fills ``.grad`` with the gradients of the loss of the global batch, averaged over the processes.

        Args:
            batch: What the loader yields for this process, crops as bytes.

        Returns:
            The output of the whole batch.

        Raises:
            RecipeError: ``embed`` normalizes by the statistics of a batch, and there is more than one piece.
        """
        device = self.accelerator.device
        pieces = _pieces(batch, self.rows)
        states, embedded = [], []
        with torch.no_grad(), self._watched(len(pieces)):
            for piece in pieces:
                states.append(_random_state(device))
                embedded.append(self._embed(piece))
        whole = {name: torch.cat([part[name] for part in embedded]) for name in embedded[0]}
        leaves = {name: value.requires_grad_(value.is_floating_point()) for name, value in whole.items()}
        rest = {name: value for name, value in batch.items() if name.removesuffix(SUFFIX) not in self.augmentation.keys}
        rest = self.augmentation(rest, device)
        with self.accelerator.autocast():
            output = objective(self.method, leaves, rest)
        self.accelerator.backward(output.loss)

        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        after = _random_state(device)
        with statistics_apart(self.method):  # the first pass has moved them already
            for piece, state, parts in zip(pieces, states, _pieces(gradients, self.rows)):
                _set_random_state(state, device)
                again = self._embed(piece)
                names = [name for name in parts if again[name].requires_grad]
                torch.autograd.backward([again[name] for name in names], [parts[name] for name in names])
        _set_random_state(after, device)
        self._average()
        return output

    @contextlib.contextmanager
    def _watched(self, pieces: int) -> Iterator[None]:
        """Sees in the first step that no batch normalization runs in ``embed``; that of heads in ``objective`` may."""
        layers = {} if self._looked or pieces == 1 else batch_norm_layers(self.method)
        handles = [
            layer.register_forward_pre_hook(lambda *_, name=name: _refuse(name, self.rows))
            for name, layer in layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self._looked = True

    def _embed(self, piece: dict[str, Any]) -> dict[str, Tensor]:
        batch = self.augmentation(piece, self.accelerator.device)
        with self.accelerator.autocast():
            return embed(self.method, batch)

    def _average(self) -> None:
        """What DistributedDataParallel does in its backward pass, which this one goes around."""
        if world_size() == 1:
            return
        for parameter in self.method.parameters():
            if parameter.requires_grad:  # in one order everywhere, with zeros where a process has no gradient
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(gradient)
                parameter.grad = gradient.div_(world_size())


def check_cacheable(method: Method, rows: int | None, batch: int) -> None:
    """Sees that the encoder has no statistics of a batch, before anything is computed.

    Args:
        method: With its encoder in the modes of the training: batch normalization that is held in evaluation mode is no
            obstacle.
        rows: Samples of a piece; None: nothing is cached.
        batch: Samples of a process and step; all in one piece are exact.

    Raises:
        RecipeError: It has.
    """
    if rows is not None and rows < batch and (layers := batch_norm_layers(method.encoder)):
        _refuse(f"encoder.{next(iter(layers))}", rows)


def _refuse(layer: str, rows: int) -> None:
    raise RecipeError(
        f"train.grad_cache is exact where samples are embedded apart, and {layer} normalizes by the statistics of the {rows} "
        "samples of a piece: use train.gradient_checkpointing or more processes to save memory, train.accumulation for a loss "
        "of each micro-batch, or an encoder without batch normalization (a ViT, convnext)"
    )


def _pieces(batch: dict[str, Any], rows: int) -> list[dict[str, Any]]:
    """Cuts every entry into pieces of so many rows; the last one may be smaller."""
    count = len(next(iter(batch.values())))
    return [{name: value[start : start + rows] for name, value in batch.items()} for start in range(0, count, rows)]


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
