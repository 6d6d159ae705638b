"""What a run's early stopping measures on: a fifth of the training images, prepared as those of its evaluation."""

from typing import Any

from .errors import RecipeError
from .evaluation.held_out import hold_out_a_fifth
from .evaluation.monitor import Monitor
from .evaluation.rows import prepared_rows
from .methods.contract.arguments import needs_labels
from .run_evaluation import OpenedRows
from .training.build import Training
from .training.build_method import published_size
from .training.early_stopping import KNN, LABEL_FREE, EarlyStopping

_TRAIN_IMAGES = 4  # for each of the fifth


def build_early_stopping(training: Training, opened: OpenedRows, processor: Any) -> EarlyStopping | None:
    """The early stopping of a run; None where the recipe does not ask for it.

    Args:
        training: The run.
        opened: Its rows, opened.
        processor: Its encoder's processor.

    Raises:
        RecipeError: The images have no labels for the metric that is asked for.
        DataError: There are too few images.
    """
    settings, rows = training.recipe.early_stopping, opened.rows
    if settings.every is None or rows is None:
        return None
    found = hold_out_a_fifth(rows, training.recipe.data.split)
    labeled = found.test.labeled and settings.metric != LABEL_FREE
    if settings.metric == KNN and not labeled:
        raise RecipeError(
            f"early_stopping.metric is knn, and {rows.description} has no labels: take label_free, or name their column in data.label_column"
        )
    if settings.metric != KNN and needs_labels(type(training.method)):  # it would be measured on what it was told
        labeled = False
    prepared = prepared_rows(
        found.train if labeled else None,
        found.test,
        processor,
        size=published_size(training.recipe, training.views),
        batch_size=training.recipe.eval.batch_size,
        max_train=_TRAIN_IMAGES * settings.max_images,
        max_test=settings.max_images,
        source=training.recipe.data.source(),
    )
    return EarlyStopping(training, Monitor(prepared, settings.max_images))
