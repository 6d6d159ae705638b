"""A heat map: a square of numbers as an image, each cell in a color from the lowest value to the highest."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .grid import grid_cells, told_grid

_CELL, _GAP, _MARGIN = (64, 36), 2, 10  # pixels
_TEXT = 14  # pixels
# From dark to light, so that it reads in gray too: five colors of viridis (Smith and van der Walt, 2015).
_COLORS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=float)
_UNKNOWN = (225, 225, 225)


def heat_map(grid: dict[str, Any]) -> bytes:
    """A grid as a PNG.

    Args:
        grid: As ``grid.grids_of`` makes it.
    """
    font = ImageFont.load_default(_TEXT)
    headings, *lines = grid_cells(grid)
    left = _MARGIN + max(round(font.getlength(line[0])) for line in lines) + _MARGIN
    cell = (max(_CELL[0], *(round(font.getlength(name)) + _MARGIN for name in headings)), _CELL[1])
    title = told_grid(grid)
    top = 2 * _MARGIN + 2 * _TEXT + _MARGIN
    width = max(left + (len(headings) - 1) * cell[0] + 2 * _MARGIN, round(font.getlength(title)) + 2 * _MARGIN)
    image = Image.new("RGB", (width, top + len(lines) * cell[1] + _MARGIN), "white")
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=font)
    columns = [
        left + number * cell[0] + (_MARGIN if name == headings[-1] else 0) for number, name in enumerate(headings[1:])
    ]
    for x, name in zip(columns, headings[1:]):
        draw.text((x + cell[0] / 2, top - _MARGIN), name, fill="black", font=font, anchor="ms")
    for number, (name, *texts) in enumerate(lines):
        y = top + number * cell[1]
        draw.text((left - _MARGIN, y + cell[1] / 2), name, fill="black", font=font, anchor="rm")
        values = [*grid["values"][number], grid["means"][number]]
        for x, text, value in zip(columns, texts, values, strict=True):
            color = _color(value, grid["values"])
            draw.rectangle((x, y, x + cell[0] - _GAP, y + cell[1] - _GAP), fill=color)
            ink = "black" if sum(color) > 360 else "white"
            draw.text((x + cell[0] / 2, y + cell[1] / 2), text.replace("–", "-"), fill=ink, font=font, anchor="mm")
    buffer = io.BytesIO()
    image.quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _color(value: float | None, values: Sequence[Sequence[float | None]]) -> tuple[int, int, int]:
    if value is None:
        return _UNKNOWN
    known = [one for line in values for one in line if one is not None]
    low, high = min(known), max(known)
    place = (value - low) / (high - low) * (len(_COLORS) - 1) if high > low else 0.0
    mixed = [np.interp(place, range(len(_COLORS)), channel) for channel in _COLORS.T]
    return round(mixed[0]), round(mixed[1]), round(mixed[2])
