"""Columns of archives: which there are, by the first samples, and every sample made to fit them.

All images of a sample that differ by their extensions alone (``jpg`` here, ``png`` there) are one column. A member or a field of JSON that a sample
lacks, or that is of another type than in the first samples, is None there; what is left out is named once, with its count.
"""

import io
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets
import pyarrow
from datasets import Features, Image
from datasets.features.features import cast_to_python_objects
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from hfcontrast.data.columns import IMAGE, KEY
from hfcontrast.data.decode import DAMAGE
from hfcontrast.data.sources.archive_samples import COMPRESSIONS, Sample, split_extension
from hfcontrast.data.sources.json_values import NUMBERED, feature_of, fit

logger = logging.getLogger(__name__)

_FILES = (Image, datasets.Audio, datasets.Video, datasets.Mesh)
URL = "__url__"  # the column with the archive of a sample
IMAGE_ENDINGS = frozenset({*WebDataset.IMAGE_EXTENSIONS, "avif", "avifs", "heic", "heif", "hif", "jxl", IMAGE})


def _text(data: bytes) -> str:
    return data.decode(
        "utf-8", errors="replace"
    )  # a caption that is not UTF-8 is left out by the mark for undecodable bytes


def _stripped(data: bytes) -> str:
    return _text(data).strip()


# Texts, numbers and JSON are decoded here, so that no exception of theirs ends a stream.
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    **WebDataset.DECODERS,
    **dict.fromkeys(("txt", "text", "transcript"), _text),
    **dict.fromkeys(NUMBERED, _stripped),
}


def decode(kind: str, data: bytes) -> Any:
    """The value of a member that is no image; bytes of an extension that is not known stay bytes.

    Raises:
        Exception: Whatever the decoder of the extension raises.
    """
    stem, extension = split_extension(kind)
    if "." + extension in COMPRESSIONS:
        with COMPRESSIONS["." + extension](io.BytesIO(data), mode="rb") as file:
            data = file.read()
        extension = split_extension(stem)[1]
    return _DECODERS[extension](data) if extension in _DECODERS else data


class Notes:
    """What is left out of the samples of an archive: each kind of it is said once, of the first archive that has it."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, what: str, example: str) -> None:
        """Counts a sample of which something is left out."""
        count, first = self._found.get(what, (0, example))
        self._found[what] = (count + 1, first)

    def tell(self, tar: str) -> None:
        """Says what was counted in an archive that is read to its end."""
        for what, (count, first) in self._found.items():
            if what not in self._told:
                if count == 1:
                    what = what.replace("samples hold", "sample holds").replace("samples have", "sample has", 1)
                logger.warning("%s: %d %s, e.g. %s; not said again of further archives", tar, count, what, first)
        self._told |= set(self._found)
        self._found = {}


@dataclass(frozen=True)
class Layout:
    """Where the members of a sample stand.

    Attributes:
        last_dot: Whether keys end at the last dot of a name.
        features: The columns.
        images: The column of the images whose kinds have one stem (``left`` of ``left.jpg``; empty of ``jpg``), where no sample has several.
    """

    last_dot: bool
    features: Features
    images: dict[str, str]

    @cached_property
    def files(self) -> frozenset[str]:
        """The columns that hold files as they are: images, sounds, videos."""
        return frozenset(name for name, feature in self.features.items() if isinstance(feature, _FILES))

    def unreadable(self, cause: str) -> dict[str, bytes]:
        """What the columns of images hold in a row that cannot be read."""
        images = [name for name, feature in self.features.items() if isinstance(feature, Image)]
        return dict.fromkeys(images, DAMAGE + cause.encode())

    def column(self, kind: str) -> str:
        """The column of a kind of member."""
        stem, extension = split_extension(kind)
        return self.images.get(stem, kind) if extension in IMAGE_ENDINGS else kind

    def row(self, tar: str, sample: Sample, notes: Notes) -> dict[str, Any]:
        """A sample as a row: bytes of images, values that fit the columns, None for what is missing."""
        row: dict[str, Any] = dict.fromkeys(self.features)
        problem = sample.problem
        for kind, data in sample.members.items():
            column = self.column(kind)
            if column not in row:
                notes.add(
                    f"samples have a member .{kind}, which is not read, as the first samples have none", sample.key
                )
            elif column not in self.files:
                row[column] = self._value(column, kind, data, sample.key, notes)
            elif row[column] is not None:
                problem = f"it has several images, {', '.join(sample.members)}: data.image_key chooses only where the first samples have them too"
            else:
                row[column] = data
        if problem:
            row |= self.unreadable(f"{tar}, key {sample.key}: {problem}")
        elif self.files and all(row[name] is None for name in self.files):
            notes.add(f"samples hold no image, only {', '.join(sample.members)}", sample.key)
        return {**row, KEY: sample.key, URL: tar}

    def _value(self, column: str, kind: str, data: bytes, key: str, notes: Notes) -> Any:
        try:
            value = decode(kind, data)
        except Exception as error:  # of any decoder
            notes.add(f"samples have a .{kind} that cannot be decoded and counts as missing", f"{key} ({error})")
            return None
        misfits: list[str] = []
        value = fit(value, self.features[column], column, misfits)
        for field in misfits:
            notes.add(
                f"samples have another type of {field.split('=')[0]} than the first ones, which counts as missing",
                f"{key} ({field})",
            )
        return value


def layout_of(tar: str, samples: Iterable[Sample], last_dot: bool, declared: Features | None) -> Layout:
    """The columns of archives, by some samples.

    Args:
        tar: Where they are from, for messages.
        samples: The samples.
        last_dot: Whether their keys end at the last dot.
        declared: What the data set itself says of its columns, where it does.
    """
    kinds: dict[str, list[bytes]] = {}
    stems: dict[str, str] = {}
    several: set[str] = set()
    for sample in samples:
        seen: set[str] = set()
        for kind, data in sample.members.items():
            kinds.setdefault(kind, []).append(data)
            stem, extension = split_extension(kind)
            if extension in IMAGE_ENDINGS:
                stems.setdefault(stem, kind if stem else IMAGE)
                several |= {stem} & seen
                seen.add(stem)
    images = {stem: column for stem, column in stems.items() if stem not in several}
    layout = Layout(last_dot, Features(), images)
    for kind, contents in kinds.items():
        column = layout.column(kind)
        if column in layout.features:
            continue
        feature = _feature_of(tar, kind, contents)
        if declared and column in declared and not isinstance(declared[column], Image):
            feature = declared[column]
        if feature is not None:
            layout.features[column] = feature
    return Layout(
        last_dot, Features({**layout.features, KEY: datasets.Value("string"), URL: datasets.Value("string")}), images
    )


def _feature_of(tar: str, kind: str, contents: list[bytes]) -> Any:
    extension = split_extension(kind)[1]
    if extension in IMAGE_ENDINGS:
        return Image()
    for extensions, feature in (
        (WebDataset.AUDIO_EXTENSIONS, datasets.Audio),
        (WebDataset.VIDEO_EXTENSIONS, datasets.Video),
        (WebDataset.MESH_EXTENSIONS, datasets.Mesh),
    ):
        if extension in extensions:
            return feature()
    values = []
    for data in contents:
        try:
            values.append(decode(kind, data))
        except Exception as error:  # of any decoder; later ones are counted
            cause = error
    if not values:
        logger.warning("the members .%s of %s are not read: they cannot be decoded (%s)", kind, tar, cause)
        return None
    try:
        return feature_of(values, numbered=extension in NUMBERED) or _feature_of_arrays(values)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        logger.warning("the members .%s of %s are not read: they make no column (%s)", kind, tar, error)
        return None


def _feature_of_arrays(values: list[Any]) -> Any:
    tables = [pyarrow.Table.from_pylist(cast_to_python_objects([{"it": v}], only_1d_for_numpy=True)) for v in values]
    return Features.from_arrow_schema(pyarrow.concat_tables(tables, promote_options="default").schema)["it"]
