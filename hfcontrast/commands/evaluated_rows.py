"""The rows of `hfcontrast evaluate`: which are held out, which are the bank, and how they are prepared."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from torch import Tensor

from ..data.held_out import held_out_sources, in_fifth
from ..data.sources import Rows, available_splits, load_rows
from ..errors import DataError
from ..evaluation.batches import Batches
from ..evaluation.inputs import picture_transform
from ..run_evaluation import check_enough, check_same_classes, fit_together
from .arguments import DataSource
from .models import OpenedModel


def choose_rows(data: DataSource, split: str | None, bank_split: str) -> tuple[DataSource, str | None, bool]:
    """The data set and the split that are judged (None: a fifth of the bank), and whether there is a bank at all.

    Raises:
        DataError: The data set cannot be opened.
    """
    splits = available_splits(**data.split_keywords())
    banks = {part.split("[")[0].strip() for part in bank_split.split("+")} <= set(splits)
    if split is not None:
        return data, split, banks
    found = [(held_out, folder) for _, held_out, folder in held_out_sources(data.keywords())]
    own = [held_out for held_out, folder in found if folder is None]
    if own or not (banks and found):
        return data, own[0] if own else None, banks or not own
    bank = load_rows(**data.keywords(), split=bank_split)
    for source, held_out, _ in held_out_sources(data.keywords()):
        other = replace(data, path=source["path"], data_dir=source["data_dir"])
        with contextlib.suppress(DataError):
            if fit_together(bank, load_rows(**other.keywords(), split=held_out)):
                return other, held_out, True
    return data, None, True


def open_rows(data: DataSource, split: str, tasks: Sequence[str] | None) -> Rows:
    """The rows that are judged, with captions where there are some.

    Raises:
        DataError: They cannot be opened; or retrieval is asked for, and there is no column of captions.
    """
    return load_rows(**data.keywords(), split=split, captioned="retrieval" in tasks if tasks else "auto")


def open_bank(data: DataSource, rows: Rows, held_out: str | None, bank_split: str) -> tuple[Rows, Rows]:
    """The rows that vote, and those that are judged.

    Raises:
        DataError: They have different classes, or are too few.
    """
    if held_out is None:
        check_enough(rows)
        queries = rows.where(in_fifth)
        bank = rows.where(lambda i: not in_fifth(i))
        return bank, replace(queries, description=f"{rows.description}, a fifth of it")
    bank = load_rows(**data.keywords(), split=bank_split)
    check_same_classes(bank, rows)
    return bank, rows


def prepared_rows(opened: OpenedModel, batch_size: int, limit: int | None, keep: bool) -> Callable[..., Batches]:
    """Makes batches of rows, as the model's processor prepares them; pixels are kept in memory only where they are used again."""
    transform = picture_transform(opened)
    size = transform([Image.new("RGB", (64, 64))]).shape[-1]

    def make(rows: Rows, **options: Any) -> Batches:
        made = Batches(rows, limit, transform=transform, batch_size=batch_size, size=size, **options)
        made.keep = made.keep and keep
        return made

    return make


def check_left(labels: Tensor, test_labels: Tensor, left_out: int, bank: Rows) -> None:
    """Refuses a bank of test images.

    Args:
        labels: (N,) of the bank, -1 where it has none or was left out.
        test_labels: (M,) of the test images.
        left_out: Rows of the bank that were left out.
        bank: What it is.

    Raises:
        DataError: Nothing is left of it.
    """
    if left_out and not (labels >= 0).any() and (test_labels >= 0).any():
        raise DataError(
            f"all {left_out:,} labeled images of {bank.description} are near-duplicates of test images: choose another "
            "--split or --bank-split"
        )
