"""Counts of an evaluation: how many images it had, and what was left out."""

from torch import Tensor


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


def told_counts(counts: dict[str, int]) -> str:
    """How many images an evaluation had, and what was left out of it."""
    text = f"{counts['test_images']:,} images"
    if "train_images" in counts:
        text += f", by {counts['train_images']:,} train images"
    if doubled := counts.get("near_duplicates"):
        text += f"; {doubled:,} train images left out as near-duplicates of test images"
    return text + told_unlabeled(counts)


def told_unlabeled(counts: dict[str, int]) -> str:
    """What was left out of an evaluation for want of a label, as the end of a sentence; empty where nothing was."""
    kinds = {kind: counts.get(f"unlabeled_{kind}_images") for kind in ("test", "train")}
    told = " and ".join(f"{count:,} {kind} images" for kind, count in kinds.items() if count)
    return f"; {told} without a label left out" if told else ""
