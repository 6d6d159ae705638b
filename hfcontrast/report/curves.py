"""Curves of a run as an image: one panel a quantity, below each other."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT, _LEFT, _GAP = 720, 180, 64, 28  # of a panel, and around its axes, in pixels
_LINE, _GRID = "#1f5fa8", "#dddddd"


def curves_image(panels: Mapping[str, Points]) -> Image.Image:
    """Draws curves over the steps of a run.

    Args:
        panels: Points (step, value) by the title of their panel; each has at least one. Values that are not finite are gaps.

    Raises:
        ValueError: There is no panel.
    """
    if not panels:
        raise ValueError("there is nothing to draw")
    image = Image.new("RGB", (_WIDTH, len(panels) * _HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    for number, (title, points) in enumerate(panels.items()):
        _panel(draw, font, title, points, number * _HEIGHT)
    return image


def _panel(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, title: str, points: Points, top: int
) -> None:
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    left, right, low, high = _LEFT, _WIDTH - _GAP, top + _HEIGHT - _GAP, top + _GAP
    draw.text((left, top + 6), title, fill="black", font=font)
    draw.rectangle((left, high, right, low), outline=_GRID)
    if not finite:
        return
    xs, ys = [x for x, _ in points], [y for _, y in finite]
    first, last, least, most = min(xs), max(xs), min(ys), max(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - least) / (most - least) if most > least else 0.5
        return left + across * (right - left), low - up * (low - high)

    for value, at in ((most, high), (least, low)):
        text = f"{value:.4g}"
        draw.text((left - 6 - font.getlength(text), at - 6), text, fill="black", font=font)
    for step, anchor in ((first, "la"), (last, "ra")):
        draw.text((place(step, least)[0], low + 6), f"{step:,.0f}", fill="black", font=font, anchor=anchor)
    for one, other in zip(points, points[1:]):
        if math.isfinite(one[1]) and math.isfinite(other[1]):
            draw.line((*place(*one), *place(*other)), fill=_LINE, width=2)
    if len(points) <= 40:
        for x, y in (place(*point) for point in finite):
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_LINE)
