"""Features of two augmented views of each test image, made of its prepared pixels: of any model, as its own processor prepares images."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..data.subsets import STATISTICS, drawn_rows
from ..encoders.features import encode, feature_size
from ..errors import DataError
from ..nn.distributed import rank, world_size
from ..nn.random import sample_uniform
from ..progress import LongTask
from .features import join_processes
from .finite import finite
from .inputs import evaluating

if TYPE_CHECKING:
    from .rows import EvaluationRows

AREA = (0.5, 1.0)  # share of an image that a view keeps
CONTRAST, BRIGHTNESS = 0.2, 0.3  # largest changes: a factor, and a shift in units of the normalized pixels
_NUMBERS = 6  # random ones of a view
_KEY = 0x76696577


def features_of_views(encoder: PreTrainedModel, rows: "EvaluationRows", images: int) -> tuple[Tensor, Tensor]:
    """Features of two views of some test images, the same ones for every encoder; every process must call it.

    Args:
        encoder: The encoder, whose training mode is restored.
        rows: The rows.
        images: How many are used at most, drawn from all of them.

    Returns:
        Twice (N, D) on the CPU, of the images whose features are finite.

    Raises:
        DataError: There is no image, or none has finite features.
    """
    parameter = next(encoder.parameters())
    both: list[list[Tensor]] = [[torch.zeros(0, feature_size(encoder), device=parameter.device)] for _ in range(2)]
    with evaluating(encoder), LongTask("encoding two views of the images") as task:
        for pixels, places in _drawn(rows, images):
            for view, found in enumerate(both):
                changed = augmented(pixels, places, view).to(parameter.device, parameter.dtype)
                found.append(encode(encoder, changed).float())
            task.update(len(pixels))
    first, second = (join_processes(torch.cat(found)).cpu() for found in both)
    good = finite(first) & finite(second)
    if not good.any():
        raise DataError("there is no image to evaluate, or the encoder's features of all of them are NaN or infinite")
    return first[good], second[good]


def augmented(pixels: Tensor, places: Tensor, view: int) -> Tensor:
    """A view of prepared images: a crop at the same size, perhaps mirrored, with another brightness and contrast.

    Args:
        pixels: (N, C, H, W), normalized.
        places: (N,) int64 numbers of the images, which with the view decide on the random numbers.
        view: Which view.
    """
    area, x, y, mirrored, contrast, brightness = sample_uniform(places, _NUMBERS, _KEY, view).unbind(1)
    side = (AREA[0] + (AREA[1] - AREA[0]) * area).sqrt()
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0] = torch.where(mirrored < 0.5, side, -side)
    theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = (1 - side) * (2 * x - 1), (1 - side) * (2 * y - 1)
    pixels = pixels.float()
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    cropped = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    mean = cropped.mean(dim=(1, 2, 3), keepdim=True)
    factor = 1 + CONTRAST * (2 * contrast - 1)
    shift = BRIGHTNESS * (2 * brightness - 1)
    return (cropped - mean) * factor.view(-1, 1, 1, 1) + mean + shift.view(-1, 1, 1, 1)


def _drawn(rows: "EvaluationRows", images: int) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of some test images: their pixels, and their numbers among all test images."""
    test: Any = rows.test
    chosen = _chosen(test, images)
    if chosen is not None and getattr(test, "too_large", False):
        positions = chosen.nonzero().flatten()
        for pixels, _ in test.in_order(
            positions.tolist()
        ):  # what cannot be read is left out: the numbers are then those of others
            yield pixels, positions[: len(pixels)] * world_size() + rank()
            positions = positions[len(pixels) :]
        return
    done = 0
    for pixels, _ in test():
        own = torch.arange(done, done + len(pixels))
        done += len(pixels)
        numbers = own * world_size() + rank()
        kept = numbers < images if chosen is None else chosen[own]
        if kept.any():
            yield pixels[kept], numbers[kept]


def _chosen(test: Any, images: int) -> Tensor | None:
    """(n,) which of this process's test images are used; None where their number is not known: then the first ones are."""
    share = getattr(test, "rows", None)
    count = -1 if share is None or share.num_rows is None else int(share.num_rows)
    counts = join_processes(torch.tensor([count])).tolist()
    if min(counts) < 0:
        return None
    drawn = torch.from_numpy(drawn_rows(np.arange(sum(counts)), images, STATISTICS))
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[drawn[drawn % world_size() == rank()] // world_size()] = True
    return chosen
