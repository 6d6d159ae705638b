"""Checks with parts of a batch: two halves, and as few images as the method declares."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ..methods.base import Method
from ..methods.contract.arguments import named_by
from ..methods.contract.calling import fewest_images_of
from ..nn.running_statistics import batch_norm_layers
from .draws import drawn_by_a_step, in_evaluation_mode, nothing_dropped
from .violation import require

ROUNDING = 1e-6  # sums of float32 differ by so much from CPU to CPU, however small the sum is


def check_samples_apart(method: Method, batch: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Embedded in two halves, the batch has the loss and the gradients of one piece: ``train.grad_cache`` is exact.

    The encoder's batch normalization, which depends on the batch in any method, and dropout are in evaluation mode.
    """
    found = []
    with _encoder_held(method), nothing_dropped(method):
        for parts in (1, 2):
            method.zero_grad()
            with _joined_again(parts):
                pieces = [{name: value.chunk(parts)[part] for name, value in batch.items()} for part in range(parts)]
                embedded = [method.embed(**named_by(method.embed, piece)) for piece in pieces]
                joined = {name: torch.cat([piece[name] for piece in embedded]) for name in embedded[0]}
                torch.manual_seed(0)
                method.objective(joined, **named_by(method.objective, batch)).loss.backward()
            found.append({name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None})
    method.zero_grad()
    largest = max(float(gradient.abs().max()) for gradient in found[0].values())
    for name, gradient in found[0].items():
        difference = float((found[1][name] - gradient).abs().max())
        limit = max(tolerance * max(float(gradient.abs().max()), largest / 10), ROUNDING)
        require(
            difference <= limit,
            f"embedded in two halves, the gradient of {name} differs by {difference:.2e} (at most {limit:.2e}): "
            + (
                drawn_by_a_step(method, batch)
                or "embed() must not mix samples; batch statistics and draws that depend on the batch belong in objective()"
            ),
        )


@contextlib.contextmanager
def _joined_again(parts: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, IndexError, KeyError) as error:
        require(
            parts == 1,
            f"embedded in two halves, the batch fails with {type(error).__name__}: {' '.join(str(error).split())}; embed() must "
            "hand everything to objective() in the dict that it returns, one row an image",
        )
        raise


def check_fewest_images(method: Method, batch: dict[str, Tensor], share: float = 1e-3) -> None:
    """As few images as the method declares give the encoder a gradient that is comparable to that of the whole batch.

    Args:
        method: The method.
        batch: More images than that.
        share: Share of the batch's largest gradient that the few images must reach.
    """
    settings = {name: getattr(method.config, name) for name in type(method.config).__dataclass_fields__}
    count = max(fewest_images_of(type(method), settings))
    # Some losses need two images of one class, others two classes.
    chosen = [batch["labels"].argsort(stable=True)[:count], torch.arange(count)]
    with _encoder_held(method):
        whole = _largest_gradient(method, batch)
        try:
            least = max(
                _largest_gradient(method, {name: value[rows] for name, value in batch.items()}) for rows in chosen
            )
        except (ValueError, RuntimeError) as error:
            require(False, f"a batch of {count} images, which min_images says are enough, is refused: {error}")
    require(
        least >= share * whole,
        f"the method says that it learns from {count} images, and the encoder's largest gradient is {least:.1e} then, where "
        f"{len(batch['index'])} images give {whole:.1e}: raise min_images, or min_images_normalized where batch normalization in "
        "a head makes two rows 1 and -1",
    )


def _largest_gradient(method: Method, batch: dict[str, Tensor]) -> float:
    method.zero_grad()
    method(**batch).loss.backward()
    gradients = [float(p.grad.abs().max()) for p in method.encoder.parameters() if p.grad is not None]
    method.zero_grad()
    return max(gradients, default=0.0)


def _encoder_held(method: Method) -> contextlib.AbstractContextManager[None]:
    """Batch normalization of the encoder, and of its copies, in evaluation mode."""
    copies = [name for name, source in method.teachers.items() if source.split(".")[0] == "encoder"]
    parts = [method.get_submodule(name) for name in ("encoder", *copies)]
    return in_evaluation_mode(layer for part in parts for layer in batch_norm_layers(part).values())
