"""Images through a processor in parts: those that wait for it, and what it resizes them to, take a bounded memory."""

from collections.abc import Callable, Iterable, Iterator

import torch
from PIL import Image

from hfcontrast.data.bands import size_of

PIXELS_AT_ONCE = 32_000_000  # decoded images that wait for the processor: about 130 MB
_USUAL_RATIO = 4  # longer images weigh as much as they do when their short side is
_SHORT_SIDE = 512  # px


def in_parts(
    images: Iterable[Image.Image], transform: Callable[[list[Image.Image]], torch.Tensor]
) -> torch.Tensor | None:
    """Transforms images, no more at once than :data:`PIXELS_AT_ONCE` allow.

    Args:
        images: As ``ImageReader.image`` gives them; none is taken before there is room for it.
        transform: Turns a list of images into a float tensor (B, C, H, W).

    Returns:
        The tensors, joined; None where there are no images.
    """
    parts = [transform(part) for part in _parts(images)]
    if not parts:
        return None
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _parts(images: Iterable[Image.Image]) -> Iterator[list[Image.Image]]:
    part: list[Image.Image] = []
    pixels = 0
    for image in images:
        part.append(image)
        pixels += _weight(*size_of(image))
        if pixels > PIXELS_AT_ONCE:
            yield part
            part, pixels = [], 0
    if part:
        yield part


def _weight(width: int, height: int) -> int:
    """Pixels that an image takes: of a long one those that it has when its short side is resized."""
    short, long = sorted((width, height))
    if long <= _USUAL_RATIO * short:
        return width * height
    return max(width * height, _SHORT_SIDE**2 * long // short)
