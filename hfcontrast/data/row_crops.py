"""The crops of given rows in a given epoch, apart from the order of a training."""

from hfcontrast.data.batches import BatchBuilder, Sample
from hfcontrast.data.row_reader import RowReader


def crops_of_rows(reader: RowReader, builder: BatchBuilder, rows: list[int], epoch: int, key: str) -> dict | None:
    """The crops under one key that some rows of a map-style data set have in an epoch.

    Args:
        reader: The rows.
        builder: Makes the batches of the training; its views and its seed are taken.
        rows: The rows; those that cannot be read are left out.
        epoch: The epoch.
        key: The batch key; it may be one that the batches of the training do not have.

    Returns:
        A batch with these crops, their colors and ``index``; None where no row can be read.
    """
    others = frozenset(view.key for view in builder.views) - {key}
    alone = BatchBuilder(builder.views, builder.seed, labeled=False, without=others, channels=builder.channels)
    samples = [sample for _, sample, _ in reader.read(rows, epoch) if isinstance(sample, Sample)]
    return alone.build(iter(samples), len(samples)) if samples else None
