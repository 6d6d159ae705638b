"""The tables of an embedded data set: rows are read and prepared ahead, encoded, and made into columns."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow
import torch
from datasets import Dataset, Features, Image, List, Value
from torch import Tensor

from ..data.captions import UnusableCaption, captions_of, usable_captions
from ..data.sources import Rows
from ..encoders.features import encode
from ..errors import HFContrastError
from ..evaluation.inputs import evaluating, image_transform, text_embeddings
from .embedding_batches import Prepared, prepared_batches
from .launched import in_turn
from .models import OpenedModel

COUNTS = ("unreadable_images", "unusable_captions", "nonfinite_images", "nonfinite_captions")  # of what is null
CUT_OFF = "captions_cut_off"  # what is counted of texts that are embedded
NOT_FINITE = "its embedding has numbers that are not finite"
OWN_COLUMNS = ("index", "image_embedding", "text_embedding")
_EXAMPLES = 3  # unreadable images of a part that are named
_ADDRESS = re.compile(r" <\S+ object at 0x[0-9a-f]+>")  # of Pillow's messages; says nothing, and differs in every run

T = TypeVar("T")


@dataclass
class Vectors:
    """Embeddings, some of which are missing.

    Attributes:
        numbers: (N, D) float32; zeros where one is missing.
        there: For each whether it is there.
        not_finite: Places of those that are missing as they have numbers that are not finite.
    """

    numbers: Tensor
    there: list[bool]
    not_finite: list[int] = field(init=False)

    def __post_init__(self):
        wrong = ~self.numbers.isfinite().all(dim=1)
        self.not_finite = wrong.nonzero()[:, 0].tolist()
        if self.not_finite:
            self.numbers = self.numbers.masked_fill(wrong[:, None], 0)
            self.there = [there and not bad for there, bad in zip(self.there, wrong.tolist())]


@dataclass
class Encoded:
    """What is left of consecutive rows when they are encoded.

    Attributes:
        copied: The values of the columns to copy, by row.
        images: One vector a row; None where images are not wanted.
        captions: For each row those of its captions; empty where texts are not wanted.
        problems: Why images cannot be read, by their places among the rows.
        cut_off: How many captions were longer than the model takes.
    """

    copied: list[tuple]
    images: Vectors | None
    captions: list[Vectors]
    problems: dict[int, str]
    cut_off: int


class PartMaker:
    """Makes the tables of the parquet files.

    Args:
        opened: The model.
        rows: The rows, with captions where texts are embedded.
        what: ``images``, ``texts`` or ``both``.
        normalize: Whether embeddings are scaled to length 1.
        dtype: Of the numbers, ``float32`` or ``float16``.
        batch_size: Rows encoded at once.
        keep: Columns to copy.
    """

    def __init__(
        self,
        opened: OpenedModel,
        rows: Rows,
        what: str,
        normalize: bool,
        dtype: str,
        batch_size: int,
        keep: Sequence[str] = (),
    ):
        self.model, self.rows = opened.model, rows
        self.normalize, self.dtype, self.batch_size = normalize, dtype, batch_size
        self.transform = image_transform(opened.image_processor) if what != "texts" else None
        self.width = opened.image_width() if self.transform else 0
        self.tokenizer = opened.tokenizer if what != "images" else None
        try:
            self.text_width = opened.text_width() if self.tokenizer else 0
        except HFContrastError as error:
            raise HFContrastError(f"{error}; --what images embeds the images alone") from error
        there = rows.dataset.features
        self.copied = tuple(dict.fromkeys(name for name in ("label", *keep) if name in there))
        features: dict[str, Any] = {"index": Value("int64")}
        if self.transform:
            features["image_embedding"] = List(Value(dtype), length=self.width)
        self.several = bool(self.tokenizer) and not isinstance(_caption_feature(rows), Value)
        if self.tokenizer:
            vector = List(Value(dtype), length=self.text_width)
            features["text_embedding"] = List(vector) if self.several else vector
        self.features = Features(features | {name: _as_read_back(there[name]) for name in self.copied})

    def parts(self, start: int, part_rows: int) -> Iterator[tuple[pyarrow.Table, dict[str, Any]]]:
        """The tables from row ``start`` on, of ``part_rows`` rows each, with what the manifest says of them.

        Several processes encode the batches of a part in turn. The first one has the tables, the others none; all must iterate.
        """
        with prepared_batches(self.rows, self.transform, start, part_rows, self.batch_size) as batches:
            for first in itertools.count(start, part_rows):
                part: list[Encoded] = []
                missing = part_rows
                while missing and (batch := next(batches, None)):
                    if batch.rows:
                        part.append(self._encode(batch))
                    missing -= batch.count
                if missing < part_rows and (part := in_turn(part)):
                    yield self._table(part, first)
                if missing:
                    return

    def _encode(self, batch: Prepared) -> Encoded:
        """Keeps nothing of the images: those of a part may be more than the memory holds."""
        copied = [tuple(row[name] for name in self.copied) for row in batch.rows]
        images, (captions, cut_off) = self._encode_images(batch), self._encode_captions(batch.rows)
        return Encoded(copied, images, captions, batch.problems, cut_off)

    def _encode_images(self, batch: Prepared) -> Vectors | None:
        if not self.transform:
            return None
        there = [place not in batch.problems for place in range(len(batch.rows))]
        numbers = torch.zeros(len(batch.rows), self.width)
        if batch.pixels is not None:
            parameter = next(self.model.parameters())
            with evaluating(self.model):
                features = encode(self.model, batch.pixels.to(parameter.device, parameter.dtype))
            numbers[torch.tensor(there)] = features.float().cpu()
        return Vectors(numbers, there)

    def _encode_captions(self, rows: list[dict]) -> tuple[list[Vectors], int]:
        """For each row the vectors of its captions (one where the column holds one caption a row), and how many were cut off."""
        if not self.tokenizer:
            return [], 0
        values = [captions_of(row, self.rows.captions) for row in rows]
        given = [(value or []) if self.several else [value] for value in values]
        captions = [[_usable(caption) for caption in several] for several in given]
        usable = [caption for several in captions for caption in several if caption is not None]
        cut: set[str] = set()
        encoded = iter(text_embeddings(self.model, self.tokenizer, usable, self.batch_size, cut))
        found = []
        for several in captions:
            there = [caption is not None for caption in several]
            numbers = torch.zeros(len(several), self.text_width)
            for place in (place for place, good in enumerate(there) if good):
                numbers[place] = next(encoded)
            found.append(Vectors(numbers, there))
        return found, sum(caption in cut for caption in usable)

    def _table(self, part: list[Encoded], first: int) -> tuple[pyarrow.Table, dict[str, Any]]:
        starts = list(itertools.accumulate((len(one.copied) for one in part), initial=first))
        told: dict[str, Any] = {"rows": starts[-1] - first} | dict.fromkeys(COUNTS, 0) | {"examples": []}
        columns: dict[str, Any] = {"index": pyarrow.array(np.arange(first, starts[-1]))}
        if self.transform:
            images = [one.images for one in part]
            columns["image_embedding"] = self._column(images, range(first, starts[-1]))
            told["nonfinite_images"] = sum(len(one.not_finite) for one in images)
            told["unreadable_images"] = columns["image_embedding"].null_count - told["nonfinite_images"]
            problems = [
                f"row {start + place}: {_ADDRESS.sub('', why)}"
                for start, one in zip(starts, part)
                for place, why in (one.problems | dict.fromkeys(one.images.not_finite, NOT_FINITE)).items()
            ]
            told["examples"] = problems[:_EXAMPLES]
        if self.tokenizer:
            captions = [vectors for one in part for vectors in one.captions]
            column = self._column(captions, [row for row, one in enumerate(captions, first) for _ in one.there])
            told["nonfinite_captions"] = sum(len(one.not_finite) for one in captions)
            missing = column.null_count + sum(not vectors.there for vectors in captions)
            told["unusable_captions"] = missing - told["nonfinite_captions"]
            told[CUT_OFF] = sum(one.cut_off for one in part)
            ends = np.cumsum([0] + [len(vectors.there) for vectors in captions], dtype=np.int32)
            columns["text_embedding"] = pyarrow.ListArray.from_arrays(ends, column) if self.several else column
        if self.copied:
            values = zip(*(row for one in part for row in one.copied))
            columns |= {name: _as_column(list(own), self.features[name]) for name, own in zip(self.copied, values)}
        return pyarrow.table(columns).cast(self.features.arrow_schema), told

    def _column(self, vectors: list[Vectors], rows: Sequence[int]) -> pyarrow.FixedSizeListArray:
        """A column of vectors, each of which belongs to one of the rows.

        Raises:
            HFContrastError: A number is larger than the type can hold.
        """
        numbers = torch.cat([one.numbers for one in vectors])
        if self.normalize:
            numbers = torch.nn.functional.normalize(numbers, dim=1)
        if self.dtype == "float16" and len(wide := numbers.half().isinf().any(dim=1).nonzero()[:, 0]):
            largest = float(numbers[wide[0]].abs().max())
            raise HFContrastError(
                f"row {rows[int(wide[0])]}: its embedding has the number {largest:,.0f}, and float16 holds at most 65,504: use "
                "--normalize or --dtype float32"
            )
        flat = pyarrow.array(numbers.numpy().astype(self.dtype).reshape(-1))
        null = pyarrow.array([not there for one in vectors for there in one.there], type=pyarrow.bool_())
        return pyarrow.FixedSizeListArray.from_arrays(flat, numbers.shape[1], mask=null)


def _caption_feature(rows: Rows) -> Any:
    feature = rows.dataset.features
    for name in rows.captions:
        feature = feature[name]
    return feature


def _as_read_back(feature: Any) -> Any:
    """The feature under which a kept column is written: images, undecoded here, are images again."""
    return Image() if isinstance(feature, Image) else feature


def _as_column(values: list[Any], feature: Any) -> pyarrow.Array | pyarrow.ChunkedArray:
    """The values of a kept column."""
    if (
        type(feature) is Value and feature.dtype == "uint64"
    ):  # datasets makes int64 of them first, which ends at 2**63 - 1
        return pyarrow.array(values, feature.pa_type)
    return Dataset.from_dict({"kept": values}, features=Features({"kept": feature})).with_format("arrow")[:]["kept"]


def _usable(caption: Any) -> str | None:
    try:
        return usable_captions(caption)[0]
    except UnusableCaption:
        return None
