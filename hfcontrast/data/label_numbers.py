"""Class numbers: what stands for a class in batches, whatever the column of labels holds, and the same in every split."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from hfcontrast.errors import DataError

NONE = -1  # stands for no label, in batches and by convention in data sets
_BEYOND = 2**62  # from here on are the numbers of classes that have none of their own: hashes of their names


class NoLabel(DataError):
    """A value is no label."""


def hashed_number(name: str) -> int:
    """The number of a class that is known by its name alone: the same in every split, process and run; 2**62 and up."""
    return _BEYOND | int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) & (_BEYOND - 1)


@dataclass(frozen=True)
class LabelNumbers:
    """How the values of a label column become class numbers.

    Attributes:
        names: Of a ``ClassLabel`` column the names of its classes.
        numbers: The number of each class by its name, where it is not the value itself: negative numbers, or the numbers of the train
            split. The name of a number is its decimal form. A class that is not among them has the number of :func:`hashed_number`.
        spelled: Whether the names were made from a column of texts.
        texts: Whether the column holds texts, as that of a stream may, which are not known before they are read.
        decimal: Whether names that are whole numbers from 0 stand for these where ``numbers`` says nothing, as the train split has numbers.
        met: Names of the hashed numbers that were given so far.
    """

    names: tuple[str, ...] | None = None
    numbers: Mapping[str, int] | None = None
    spelled: bool = False
    texts: bool = False
    decimal: bool = False
    met: dict[int, str] = field(default_factory=dict, compare=False)

    def number(self, value: Any) -> int:
        """The class number of one value of the column; -1 for none.

        Args:
            value: A number, a text, or None.

        Raises:
            NoLabel: A number with a fraction.
        """
        if isinstance(value, str):
            return self._named(value) if value.strip() else NONE
        whole = whole_number(value)
        if whole is None or (self.names is not None and not 0 <= whole < len(self.names)):
            return NONE
        if self.numbers is None and (self.names is not None or NONE <= whole < _BEYOND):
            return whole
        return self._named(str(whole) if self.names is None else self.names[whole])

    def of_column(self, column: pyarrow.ChunkedArray | pyarrow.Array) -> np.ndarray:
        """The class numbers of a whole column, (N,) int64; -1 for rows without a label."""
        if isinstance(column, pyarrow.ChunkedArray):
            column = column.combine_chunks()
        encoded = pyarrow.compute.dictionary_encode(column)
        found = np.array([*map(self.number, encoded.dictionary.to_pylist()), NONE], dtype=np.int64)
        return found[np.asarray(encoded.indices.fill_null(len(found) - 1))]

    def name(self, number: int) -> str:
        """What the class with a number is called."""
        if self.numbers is not None:
            known = next((name for name, one in self.numbers.items() if one == number), None)
        else:
            known = self.names[number] if self.names is not None and 0 <= number < len(self.names) else None
        return known if known is not None else self.met.get(number, str(number))

    def by_name(self) -> dict[str, int] | None:
        """The number of every class by its name; None where numbers are their own names, or texts are not known beforehand."""
        if self.names is not None:
            return {name: self.number(place) for place, name in enumerate(self.names)}
        return None if self.numbers is None else dict(self.numbers)

    def _named(self, name: str) -> int:
        number = None if self.numbers is None else self.numbers.get(name)
        if number is None and name == str(NONE):
            return NONE
        if number is None and self.decimal and name.isdecimal() and int(name) < _BEYOND:
            return int(name)
        if number is None:
            number = hashed_number(name)
            self.met[number] = name
        return number


def whole_number(value: Any) -> int | None:
    """A number as a whole one; None for no value.

    Raises:
        NoLabel: It has a fraction, or is infinite.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not value.is_integer() if isinstance(value, float) else int(value) != value:
        raise NoLabel(f"{value} is no class: labels are whole numbers, texts, truth values or one-hot lists")
    return int(value)


def numbers_with_negatives(values: Sequence[int | None]) -> dict[str, int] | None:
    """The class numbers of whole numbers of which some cannot stand for themselves; None where all can.

    -1 stands for no label, unless there are labels below it, or -1 and one other label are all there is.

    Args:
        values: The different labels.
    """
    found = sorted(value for value in values if value is not None)
    if not found or (found[0] >= NONE and found[-1] < _BEYOND and not (found[0] == NONE and len(found) == 2)):
        return None
    return {str(value): number for number, value in enumerate(found)}
