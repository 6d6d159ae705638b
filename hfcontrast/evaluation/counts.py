"""Counts of an evaluation: how many images it had, and what was left out."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_NAMED = 5  # classes in a sentence
_ON_ES = ("processes", "classes")
_PLURALS = (
    "images",
    "rows",
    "texts",
    "captions",
    "prompts",
    "files",
    "near-duplicates",
    "threads",
)  # evaluators may count things whose singular is not known


def label_counts(labels: Tensor, train_labels: Tensor, near_duplicates: int) -> dict[str, int]:
    """How many images classify and are classified, and how many are left out of either: for the table, the card and reports.

    Args:
        labels: (M,) of the test images, below 0 where there is none.
        train_labels: (N,) of the train images, the same; of near-duplicates of test images too.
        near_duplicates: Train images that were left out for that.

    Returns:
        ``test_images`` (all where none has a label), ``train_images``, ``near_duplicates``, ``unlabeled_test_images`` and
        ``unlabeled_train_images``.
    """
    test, train = int((labels >= 0).sum()), int((train_labels >= 0).sum())
    return {
        "test_images": test or len(labels),
        "train_images": train,
        "near_duplicates": near_duplicates,
        "unlabeled_test_images": len(labels) - test,
        "unlabeled_train_images": len(train_labels) - train - near_duplicates,
    }


def class_count(labels: Tensor) -> int:
    """How many classes labels (M,) are of; those below 0 are none."""
    return len(labels[labels >= 0].unique())


def unknown_labels(labels: Tensor, train_labels: Tensor) -> Tensor:
    """(U,) the labels of the test images whose class no train image has; arguments as in :func:`label_counts`."""
    labels = labels[labels >= 0]
    return labels[~torch.isin(labels, train_labels)]


def unknown_counts(labels: Tensor, name: Callable[[int], str]) -> dict[str, Any]:
    """How many test images have a class that no train image has, and the names of these classes, the most frequent first.

    Args:
        labels: (U,) of these images.
        name: Gives the name of a class.

    Returns:
        ``unknown_class_test_images`` and ``unknown_classes``.
    """
    classes, counts = labels.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    return {"unknown_class_test_images": len(labels), "unknown_classes": [name(one) for one in classes[order].tolist()]}


def nonfinite_counts(test: int = 0, train: int = 0) -> dict[str, int]:
    """Test and train images whose features are not finite, as far as there are any."""
    found = {"nonfinite_test_images": test, "nonfinite_train_images": train}
    return {name: count for name, count in found.items() if count}


def behind(which: str, used: int, batches: Any) -> dict[str, int]:
    """The numbers behind a figure: ``test_images`` or ``train_images``, and of how many, where that is known and more.

    Args:
        which: ``test`` or ``train``.
        used: How many of them were used.
        batches: What they were read from: its ``all_rows`` are all that there are.
    """
    everything = getattr(getattr(batches, "all_rows", None), "num_rows", None)
    return {f"{which}_images": used} | ({f"of_{which}_images": everything} if everything is not None else {})


def counted(count: int, what: str) -> str:
    """A count with what is counted: ``1 test image``, ``1,234 test images``.

    Args:
        count: How many.
        what: The plural.
    """
    if count == 1 and what.endswith(_ON_ES):
        return f"1 {what.removesuffix('es')}"
    return f"{count:,} {what.removesuffix('s') if count == 1 and what.endswith(_PLURALS) else what}"


def told_numbers(numbers: Mapping[str, Any]) -> str:
    """The numbers behind a figure in words: ``8 of 40 test images, 10 of 40 train images, k = 10``."""
    parts = []
    for name, value in numbers.items():
        if name == "k":
            parts.append(f"k = {value}")
        elif name == "tuned":  # by FineTune, where that is not all of the encoder
            parts.append(f"tuned {value}")
        elif name == "data":  # of a figure that was measured on other data than the test images
            parts.append(f"on {value}")
        elif name.endswith("_cut_off"):  # of texts, that have more tokens than the model takes
            parts.append(f"{counted(value, name.removesuffix('_cut_off'))} cut off")
        elif not name.startswith("of_"):
            all_of = numbers.get(f"of_{name}", value)
            if name.startswith("nonfinite"):
                what = name.removeprefix("nonfinite_").replace("_", " ")
                parts.append(f"{counted(value, what)} with features that are not finite")
            else:
                what = counted(all_of, name.replace("_", " "))
                parts.append(f"{value:,} of {what}" if all_of != value else what)
    return ", ".join(parts)


def titles_by_numbers(titles: Mapping[str, str], numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The titles of the figures behind which the same numbers are, by these numbers in words; figures without numbers are left out.

    Args:
        titles: Of the figures, by their keys.
        numbers: The numbers behind figures, by their keys.
    """
    found: dict[str, list[str]] = {}
    for key, title in titles.items():
        if told := told_numbers(numbers.get(key) or {}):
            found.setdefault(told, []).append(title)
    return found


def told_counts(counts: Mapping[str, Any]) -> str:
    """How many images an evaluation had, and what was left out of it."""
    text = counted(counts["test_images"], "images")
    if "train_images" in counts:
        text += f", by {counted(counts['train_images'], 'train images')}"
    if doubled := counts.get("near_duplicates"):
        text += f"; {counted(doubled, 'train images')} left out as near-duplicates of test images"
    return text + told_labels(counts)


def told_series(counts: Mapping[str, Any]) -> str | None:
    """What near-duplicates are, where an evaluation left out some, and that few train images say little; None where there is nothing to say.

    How many there are is said by :func:`told_counts`.

    Args:
        counts: What it counted.
    """
    if not (train := counts.get("train_images")):
        return None
    doubled, told = counts.get("near_duplicates", 0), []
    if doubled:
        told.append(
            "near-duplicates have the pixels or the perceptual hash of a test image; crops of a test image, or further images of its series, "
            "are not found so, and flatter"
        )
    if doubled > train:
        told.append(f"by the {counted(train, 'train images')} that remained, figures say little")
    elif train < counts.get("test_classes", 0):
        told.append(f"by {counted(train, 'train images')} for {counts['test_classes']:,} classes, figures say little")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}." if text else None


def told_labels(counts: Mapping[str, Any]) -> str:
    """What was left out of an evaluation but near-duplicates, and what counts as wrong, as the end of a sentence; mostly empty."""
    kinds = {kind: counts.get(f"unlabeled_{kind}_images") for kind in ("test", "train")}
    told = " and ".join(counted(count, f"{kind} images") for kind, count in kinds.items() if count)
    shared = counts.get("shared_rows")
    they = "it is a test row" if shared == 1 else "they are test rows"
    text = f"; {counted(shared, 'train rows')} left out as {they}" if shared else ""
    text += f"; {told} without a label left out" if told else ""
    if counts.get("test_classes") == 1:
        text += "; all test images are of one class, which says nothing"
    if images := counts.get("nonfinite_train_images"):
        text += f"; {counted(images, 'train images')} left out, as {'its' if images == 1 else 'their'} features are not finite"
    if images := counts.get("nonfinite_test_images"):
        has, count = ("has", "counts") if images == 1 else ("have", "count")
        text += f"; {counted(images, 'test images')} {has} features that are not finite and {count} as wrong"
    if images := counts.get("unknown_class_test_images"):
        names = counts["unknown_classes"]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        count, their = ("counts", "its") if images == 1 else ("count", "their")
        text += (
            f"; {counted(images, 'test images')} {count} as wrong, as no train image has {their} class: "
            f"{', '.join(names[:_NAMED])}{more}"
        )
    return text


def told_overlap(evaluation: Mapping[str, Any], labels: str | None) -> str | None:
    """That an encoder was, or may have been, trained on its test images too; None where it was not, or where nothing is noted.

    Args:
        evaluation: What an evaluation counted: ``trained_on``, how many of ``test_rows`` rows, or ``all``; None is not known.
        labels: Whether the training ``used`` their labels or left them ``unused``; None where there are none.
    """
    count = evaluation.get("trained_on", 0)
    if count == 0:
        return None
    seen = f", {'their labels included' if labels == 'used' else 'without their labels'}" if labels else ""
    if count is None:
        return f"The encoder may have been trained on some or all of these test images too{seen}."
    rows = evaluation.get("test_rows")
    some = "all of these test images"
    if count != "all":
        some = f"{count:,} of the {rows:,} test rows" if rows else f"{count:,} of the test rows"
    return f"The encoder was trained on {some} too{seen}."
