"""Which rows are held out to evaluate on: a split that is named, else a held-out one, a folder beside the trained one, or a fifth."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data.aligned_labels import shared_classes
from ..data.held_out import held_out_sources, in_fifth
from ..data.sources import Rows, load_rows
from ..data.subsets import HELD_OUT, drawn_rows
from ..errors import DataError

logger = logging.getLogger(__name__)

_EXAMPLES = 3  # of classes in a message


@dataclass(frozen=True)
class HeldOut:
    """What a model is evaluated on.

    Attributes:
        train: The rows that classifiers are fitted to; None where there are none.
        test: The rows that are evaluated on, with their captions where those are wanted and there are any.
        split: The split of the test rows; None where a fifth of the train rows is held out.
        where: Where the test rows are, as in messages: a split, a folder, a fifth.
        own: Whether the test rows come from the same data set as the train rows.
    """

    train: Rows | None
    test: Rows
    split: str | None
    where: str
    own: bool = True


def held_out_rows(
    source: Mapping[str, Any],
    *,
    train: Callable[[], Rows | None],
    train_split: str,
    split: str | None = None,
    captioned: bool | str = False,
    columns: tuple[str, ...] = (),
    fifth: bool = True,
) -> HeldOut:
    """Chooses the rows to evaluate on.

    They are the split that is named; else a held-out split, or a folder beside the trained one (see :mod:`hfcontrast.data.held_out`);
    else a fifth of the train rows, which are then not trained on.

    Args:
        source: Of the train rows, as arguments of ``load_rows``.
        train: Opens the train rows, with what is wanted of a fifth of them; it returns None where there are none.
        train_split: Their split.
        split: The split to evaluate on; None: the best that there is.
        captioned: As in ``load_rows``.
        columns: Further columns of the test rows.
        fifth: Whether a fifth of the train rows is held out where there is nothing else; else all of them are evaluated on.

    Raises:
        DataError: They cannot be opened, have no class in common, or are too few.
    """
    wanted: dict[str, Any] = {"captioned": captioned, "columns": columns}
    if split is not None:
        rows = train()
        test = labeled_as(rows, load_rows(**source, split=split, **wanted), source, split, **wanted)
        return HeldOut(_fitting(labeled_as(test, rows, source, train_split), test), test, split, split)
    rows = train()
    if found := find_held_out(source, rows, train_split, **wanted):
        return replace(found, train=_fitting(labeled_as(found.test, rows, source, train_split), found.test))
    if rows is None:  # which says what there is instead
        rows = load_rows(**source, split=train_split, **wanted)
    return hold_out_a_fifth(rows, train_split) if fifth else HeldOut(None, rows, None, f"all of {train_split}")


def hold_out_a_fifth(rows: Rows, train_split: str) -> HeldOut:
    """A fifth of the train rows to evaluate on, of each class where labels are known beforehand; the others are the train rows then.

    Raises:
        DataError: There are fewer than five.
    """
    check_enough(rows)
    labels = rows.class_numbers()
    if labels is None:
        train, test = rows.where(lambda i: not in_fifth(i)), rows.where(in_fifth)
    else:
        places = np.fromiter(rows.places(), dtype=np.int64, count=len(labels))
        chosen = drawn_rows(places, round(len(labels) / 5), HELD_OUT, labels)
        train, test = rows.select(np.delete(np.arange(len(labels)), chosen)), rows.select(chosen)
    test = replace(test, description=f"{rows.description}, a fifth of it")
    return HeldOut(train, test, None, f"a fifth of {train_split}")


def labeled_as(first: Rows | None, rows: Any, source: Mapping[str, Any], split: str, **options: Any) -> Any:
    """Rows with the labels that they were not thought to have, where those that belong to them have some.

    Texts of which few rows share one, as where a split has one image of each class, are labels if those of the other split are.

    Args:
        first: The rows that belong to them.
        rows: The rows; None stays None.
        source: Where they come from, as arguments of ``load_rows``.
        split: Their split.
        options: Further ones.
    """
    if first is None or rows is None or not first.labeled or rows.labeled or rows.not_labels is None:
        return rows
    logger.warning(
        "column %r of %s is used as labels all the same, as that of %s is", rows.not_labels, rows.description, first.description
    )  # fmt: skip
    return load_rows(**{**source, "label_column": rows.not_labels}, split=split, **options)


def _fitting(train: Rows | None, test: Rows) -> Rows | None:
    if train is not None:
        check_same_classes(train, test)
    return train


def find_held_out(source: Mapping[str, Any], train: Rows | None, train_split: str, **options: Any) -> HeldOut | None:
    """The best rows that are held out for evaluation; None where there are none.

    Rows that cannot be classified by the train rows (without labels, or with no class of theirs) come last: they are taken where
    they are a split of the same data set, of which it is then said, and passed over in a folder beside it.

    Args:
        source: Of the train rows, as arguments of ``load_rows``.
        train: The train rows; None where there are none.
        train_split: Their split.
        options: Of ``load_rows``.

    Raises:
        DataError: A split of the data set cannot be opened.
    """
    last = None
    for other, split, folder in held_out_sources(source):
        if folder is None and split == train_split:
            continue
        try:
            tests = labeled_as(train, load_rows(**other, split=split, **options), other, split, **options)
        except DataError:
            if folder is None:
                raise
            continue
        if folder is None:
            found = HeldOut(train, tests, split, split)
        else:
            named = replace(tests, description=f"{folder} (split {split})")
            found = HeldOut(train, named, split, f"folder {folder.name} beside it", own=False)
        if fit_together(train, tests):
            return found
        last = last or (found if folder is None else None)
    return last


def first_held_out(source: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The source and split of the first rows that are held out; those of the train rows where there are none."""
    return next(((other, split) for other, split, _ in held_out_sources(source)), (dict(source), "train"))


def fit_together(train: Rows | None, test: Rows) -> bool:
    """Whether test rows can be classified by train rows, as far as columns and names of classes say: some of these must be the same."""
    if train is None or not train.labeled:
        return True
    return test.labeled and shared_classes(train, test)


def check_enough(rows: Rows) -> None:
    """Refuses to hold a fifth of too few rows out.

    Raises:
        DataError: There are fewer than five.
    """
    if rows.num_rows is not None and rows.num_rows < 5:
        raise DataError(
            f"{rows.description} has {rows.num_rows} row{'s' * (rows.num_rows != 1)} and no test split: of fewer than 5 no fifth can be held out to "
            "evaluate on; name a data set in eval.path or a split in eval.split"
        )


def check_same_classes(train: Rows, test: Rows) -> None:
    """Refuses train rows that cannot classify the test rows.

    Raises:
        DataError: Both name their classes, and no name is in both.
    """
    if train.labeled and test.labeled and not shared_classes(train, test):
        names = [sorted(rows.labels.by_name() or ())[:_EXAMPLES] or ["numbers"] for rows in (test, train)]
        told = " and ".join(", ".join(some) for some in names)
        raise DataError(
            f"the classes of {test.description} are not those of {train.description} (such as {told}), so its images cannot be "
            "classified by them: choose another eval.split or eval.path"
        )
