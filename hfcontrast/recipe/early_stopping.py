"""The settings of early stopping, the section `early_stopping`."""

from typing import Annotated, Literal

from pydantic import Field

from .section_base import Count, NotNegative, Section


class EarlyStoppingSection(Section):
    """When a training lowers its learning rate, goes back to its best state or ends, because the encoder gets worse."""

    every: Count | Literal["auto"] | None = Field(
        None,
        description="Steps between two measurements on a fifth of the training images; auto: a twentieth of the run; null: no early stopping.",
    )
    metric: Literal["auto", "knn", "label_free"] = Field(
        "auto",
        description="What is measured: knn, kNN accuracy of that fifth by the other images; label_free, neighbors that two augmented views "
        "share; auto: knn where the images have labels and the method does not learn from them.",
    )
    patience: Count = Field(
        2,
        description="Measurements in a row that are worse than the best one, until the best state is restored and the learning rate lowered.",
    )
    min_delta: NotNegative = Field(
        0.01, description="By how much a measurement has to be below the best one to count as worse."
    )
    lr_factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="What the learning rate is multiplied by when the best state is restored."
    )
    max_reductions: Annotated[int, Field(ge=0)] = Field(
        2, description="How often the learning rate is lowered; the next time the training ends with the best state."
    )
    min_rank: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Share of the RankMe of the start below which an encoder counts as worse, whatever else is measured.",
    )
    min_shared: Annotated[float, Field(ge=0, le=1)] = Field(
        0.4,
        description="Share of an image's nearest neighbors at the start that it has to keep; with fewer, and measured without labels, an "
        "encoder counts as worse.",
    )
    max_images: Annotated[int, Field(ge=16)] = Field(
        1000, description="Images of the fifth that are measured on, at most; kNN has four times as many beside them."
    )
