"""A sheet of images: one row a sample, one column a kind, with headings."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP, _HEADING = 6, 18  # pixels
_SMALLEST = 96  # side that small images are enlarged to, by a whole factor


def image_sheet(columns: Mapping[str, Tensor], mean: Sequence[float], std: Sequence[float]) -> Image.Image:
    """Puts images side by side.

    Args:
        columns: Normalized images by heading, from left to right: (B, 3, H, W), or several of one kind (B, P, 3, H, W).
            All B are equal; sizes may differ from column to column.
        mean: Mean of each color that they were normalized by, in [0, 1].
        std: Standard deviation of each color.

    Returns:
        An RGB image; what is out of range is cut off, and what is not finite is black.

    Raises:
        ValueError: There is no column, or the columns are of different lengths.
    """
    if len({len(images) for images in columns.values()}) != 1:
        raise ValueError(f"columns of one length are expected, got { {name: len(c) for name, c in columns.items()} }")
    kinds = [_as_bytes(images, mean, std) for images in columns.values()]
    height = max(kind.shape[1] for kind in kinds)
    widths = [max(kind.shape[2], _text_width(name)) for name, kind in zip(columns, kinds)]
    count = len(kinds[0])
    size = (_GAP + sum(width + _GAP for width in widths), _HEADING + _GAP + count * (height + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    left = _GAP
    for name, kind, width in zip(columns, kinds, widths):
        draw.text((left, _GAP // 2), name, fill="black", font=ImageFont.load_default())
        for row, pixels in enumerate(kind):
            sheet.paste(Image.fromarray(pixels), (left, _HEADING + _GAP + row * (height + _GAP)))
        left += width + _GAP
    return sheet


def _as_bytes(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Images as (B, H', W', 3) bytes, enlarged, those of one sample side by side."""
    images = images.detach().float().cpu()
    if images.ndim == 4:
        images = images.unsqueeze(1)
    values = images * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    values = (values.nan_to_num(0.0).clamp(0, 1) * 255).round().byte()
    factor = max(round(_SMALLEST / values.shape[-1]), 1)
    values = values.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    apart = torch.nn.functional.pad(values, (0, _GAP // 2), value=255)  # (B, P, 3, H', W' + gap)
    side_by_side = apart.permute(0, 2, 3, 1, 4).flatten(3)[..., : -(_GAP // 2)]
    return side_by_side.permute(0, 2, 3, 1).contiguous().numpy()


def _text_width(text: str) -> int:
    return round(ImageFont.load_default().getlength(text))
