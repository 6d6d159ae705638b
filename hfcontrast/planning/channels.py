"""How many channels the images of a folder have, and what happens to those that have others than most."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..data.bands import bands_of
from ..data.decode import UnreadableImage
from ..data.sources import Rows
from ..errors import DataError


def misfit(rows: Rows, place: int, data: bytes, wanted: int | None) -> str | None:
    """Why an image cannot be read with the number of channels that ``data.channels`` asks for; None where it can, or nothing is asked for.

    Args:
        rows: The rows, whose reader knows ``data.channels``.
        place: The number of the row.
        data: The bytes of its image.
        wanted: ``data.channels``.
    """
    if wanted is None:
        return None
    if wanted == 3 and (channels := bands_of(data)) is not None:
        return f"has {channels} channels, and data.channels is 3"
    try:
        rows.reader.image(rows.dataset[place]["image"])
    except UnreadableImage as error:
        return str(error)
    return None


def of_one_number(
    seen: Sequence[dict[str, Any] | str], folder: str, allowed: float
) -> tuple[list[dict[str, Any] | str], int | None]:
    """The images with the most frequent number of channels, and this number: None where that is one of gray or color.

    Those of others count as unreadable: the cause stands in their place.

    Args:
        seen: What was seen of each image; a text where it cannot be read.
        folder: What the user calls them.
        allowed: Share of the images that may be unreadable (``data.max_unreadable``).

    Raises:
        DataError: More have other numbers of channels than may be unreadable, so that the user has to choose.
    """
    counts = Counter(one["channels"] for one in seen if not isinstance(one, str)).most_common()
    if not counts:
        return list(seen), None
    most = counts[0][0]
    if sum(count for _, count in counts[1:]) > allowed * len(seen):
        several = ", ".join(_in_words(count, number) for number, count in counts)
        choice = next(number for number, _ in counts if number is not None)
        left = sum(count for number, count in counts if number != choice) / len(seen)
        share = min(math.ceil(10 * left + 1) / 10, 1.0)
        raise DataError(
            f"--images {folder}: of {len(seen)} images that were tried {several}: one encoder takes one number of channels, so separate them, or "
            f"choose with data.channels={choice} data.max_unreadable={share:g}, which leaves the others out"
        )
    return [
        one
        if isinstance(one, str) or one["channels"] == most
        else f"has other channels than {most or 'gray and color'}"
        for one in seen
    ], most


def _in_words(count: int, channels: int | None) -> str:
    one = count == 1
    if channels is None:
        return f"{count} {'is' if one else 'are'} gray or color"
    return f"{count} {'has' if one else 'have'} {channels} channel{'s' * (channels != 1)}"
