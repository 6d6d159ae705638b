"""Arguments that several commands have; declared without importing the code that uses them."""

import argparse
import contextlib
import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import HFContrastError
from ..paths import home_problem, local_path

_SETTING = re.compile(
    r"(?<![\w'\"/.-])(?:data\.)?"
    r"(image_column|image_key|label_column|caption_column|open_addresses|max_pixels|data_dir|data_files)\b(=?)"
)
_SPLIT_FIELDS = ("path", "name", "data_dir", "data_files", "revision")


@dataclass(frozen=True)
class DataSource:
    """Which data, as recipes name it; the fields are arguments of ``hfcontrast.data.load_rows``.

    Args:
        path: Anything that ``datasets.load_dataset`` takes, a folder that ``save_to_disk`` wrote, or ``builtin/...``.
        name: The configuration, where the data set has several.
        data_dir: As in ``load_dataset``.
        data_files: As in ``load_dataset``.
        revision: The version of a Hub data set.
        streaming: Whether to read the rows in order as they come.
        image_column: Column with the images; None looks for it.
        label_column: Column with the labels; None looks for it.
        caption_column: Column with the captions; None looks for it.
        open_addresses: Whether addresses that rows hold instead of images are opened.
        max_pixels: Pixels of an image at most.
        window: The values of grays of more than 8 bits that become black and white.
        channels: How many channels images have; None is 3. Of commands the model says it.
        image_key: Which image of an archive's samples, where they have several.
    """

    path: str
    name: str | None = None
    data_dir: str | None = None
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    revision: str | None = None
    streaming: bool = False
    image_column: str | None = None
    label_column: str | None = None
    caption_column: str | None = None
    open_addresses: bool = False
    max_pixels: int = 89_478_485
    image_key: str | None = None
    window: tuple[float, float] | None = None
    channels: int | None = None

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of ``load_rows``."""
        found = asdict(self)
        if self.channels in (None, 3):
            del found["channels"]
        return found

    def split_keywords(self) -> dict[str, Any]:
        """Keyword arguments of ``available_splits``."""
        return {name: value for name, value in asdict(self).items() if name in _SPLIT_FIELDS}


def add_recipe_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Declares RECIPE [key.path=value ...], as every command that reads a recipe has it."""
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        type=local_path,
        nargs="?" if optional else None,
        help="the YAML file, or the name of a shipped one, such as photos/simclr",
    )
    parser.add_argument(
        "overrides", metavar="key.path=value", nargs="*", default=[], help="settings that go before the file's"
    )
    parser.add_argument(
        "--common",
        metavar="FILE",
        type=local_path,
        help="settings that the recipe shares with others; its own go before them",
    )


def add_model_and_data(parser: argparse.ArgumentParser) -> None:
    """Declares MODEL, PATH and how both are read."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=local_path,
        help="a folder or a name on the Hub, of anything that AutoModel loads",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        type=local_path,
        help="data set: a Hub name, folder, format, or builtin/shapes, as in data.path",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a model on the Hub")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that the model brings with it"
    )
    parser.add_argument("--device", help="such as cuda:1 or cpu (default: a GPU where there is one)")
    parser.add_argument(
        "--batch-size", metavar="N", type=count, default=64, help="images encoded at once (default: 64)"
    )
    _add_data(parser.add_argument_group("data, as in a recipe"))


def _add_data(data: Any) -> None:  # a group of a parser, whose class has no public name
    """Declares how the data are read."""
    data.add_argument("--name", help="configuration of the data set")
    data.add_argument(
        "--data-dir",
        metavar="FOLDER",
        type=local_path,
        help="folder with the data, within the data set or for a format",
    )
    data.add_argument(
        "--data-files",
        metavar="[SPLIT=]PATTERN",
        action="append",
        help="files of the data set; with SPLIT= those of that split (can be repeated)",
    )
    data.add_argument("--data-revision", metavar="REVISION", help="version of a data set on the Hub")
    data.add_argument("--streaming", action="store_true", help="read the rows as they come")
    data.add_argument("--image-column", metavar="COLUMN", help="column with the images (default: looked for)")
    data.add_argument(
        "--image-key",
        metavar="EXTENSION",
        help="which image of an archive's samples, such as left.jpg, where they have several",
    )
    data.add_argument("--label-column", metavar="COLUMN", help="column with the class labels (default: looked for)")
    data.add_argument("--caption-column", metavar="COLUMN", help="column with the captions (default: looked for)")
    data.add_argument(
        "--open-addresses",
        action="store_true",
        help="open addresses that rows hold instead of images (http://, file://)",
    )
    data.add_argument(
        "--max-pixels",
        metavar="N",
        type=count,
        default=DataSource.max_pixels,
        help="pixels of an image above which it counts as unreadable (default: 89478485)",
    )
    data.add_argument(
        "--window",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=float,
        help="values of grays of more than 8 bits that become black and white, as data.window of the training",
    )


def as_options(text: str) -> str:
    """A sentence that names settings of data, as recipes have them, with the options that they are here: ``--open-addresses``.

    Args:
        text: The sentence.
    """
    text = _SETTING.sub(lambda found: f"--{found[1].replace('_', '-')}{' ' if found[2] == '=' else ''}", text)
    text = text.replace("data.window", "--window").replace("data.path", "PATH")
    return text.replace("--open-addresses is true", "--open-addresses is given")


@contextlib.contextmanager
def naming_options(wanted: bool = True) -> Iterator[None]:
    """Lets the log messages of hfcontrast name settings of data as the options that they are here.

    Args:
        wanted: Whether the command has such options.
    """
    before = logging.getLogRecordFactory()

    def factory(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = before(*arguments, **options)
        if record.name.startswith("hfcontrast.") and (text := record.getMessage()) != (told := as_options(text)):
            record.msg, record.args = told, None
        return record

    if wanted:
        logging.setLogRecordFactory(factory)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def data_source(args: argparse.Namespace) -> DataSource:
    """The data that a command line names.

    Raises:
        HFContrastError: ``--data-files`` with and without a split are mixed.
    """
    return DataSource(
        args.path,
        args.name,
        args.data_dir,
        data_files(args.data_files),
        args.data_revision,
        args.streaming,
        args.image_column,
        args.label_column,
        args.caption_column,
        args.open_addresses,
        args.max_pixels,
        args.image_key,
        window_of(args.window),
    )


def window_of(given: list[float] | None) -> tuple[float, float] | None:
    """``--window`` as ``load_rows`` takes it.

    Raises:
        HFContrastError: The darkest value is not below the brightest.
    """
    if given is None:
        return None
    if not given[0] < given[1]:
        raise HFContrastError(f"--window {given[0]:g} {given[1]:g}: the darkest value is to be below the brightest one")
    return given[0], given[1]


def data_files(given: list[str] | None) -> str | list[str] | dict[str, str | list[str]] | None:
    """``--data-files`` as ``load_dataset`` takes them. What stands before a ``=`` is a split unless it has a slash in it.

    Raises:
        HFContrastError: With and without a split are mixed.
    """
    if not given:
        return None
    named = [None if os.path.lexists(item) else re.fullmatch(r"(\w+)=(.+)", item, re.DOTALL) for item in given]
    if not any(named):
        given = [local_path(item) for item in given]
        return given[0] if len(given) == 1 else given
    if not all(named):
        plain = next(item for item, match in zip(given, named) if not match)
        raise HFContrastError(
            f"--data-files {plain} names no split, but another one does: write all of them as SPLIT=PATTERN, or none"
        )
    files: dict[str, Any] = {}
    for match in named:
        files.setdefault(match[1], []).append(local_path(match[2]))
    return files


def count(text: str) -> int:
    """A whole number from 1 to 2^31 - 1, for argparse."""
    if text.isdecimal() and (len(text) > 20 or int(text) >= 2**31):
        raise argparse.ArgumentTypeError(f"expected a whole number below {2**31}, got {text[:40]!r}")
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def output(text: str) -> str:
    """A file or folder that is written, for argparse."""
    path = local_path(text)
    if problem := home_problem(path):
        raise argparse.ArgumentTypeError(problem)
    return path


def seconds(text: str) -> float:
    """A duration above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return number


def share(text: str) -> float:
    """A number above 0 and up to 1, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1, such as 0.1, got {text!r}")
    return number
