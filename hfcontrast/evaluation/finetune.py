"""Fine-tuning: the encoder and a linear classifier on its features, trained end to end on labeled images.

How methods of masked image modeling and of predictive pretext tasks are evaluated, beside the linear probe. The form is that of MAE (He et al.,
2021, arXiv:2111.06377, appendix A.1, table 9): AdamW, a cosine after a linear warm-up, cross-entropy with label smoothing, a
linear layer on the features without a normalization before it (MAE's linear probe has one). Fixed, so that figures can be compared,
and made for small data, it differs in this:

- thirty epochs in batches of 64, with a learning rate that does not grow with the batch, instead of 50 or 100 in batches of 1024:
  of a few thousand images fewer steps leave small encoders behind their own linear probe;
- layer-wise decay of the learning rate only where it is asked for (``layer_decay``; 0.75 in MAE's table 9);
- no drop path (beyond the architecture's own), mixup, cutmix or moving average of the weights;
- images are shifted by reflection and mirrored, instead of RandAugment, random erasing and crops of random size;
- the classifier starts at N(0, 0.01) with zero biases; norms, biases, class tokens and position embeddings are not decayed;
- float32 throughout.

What only the pretraining had frozen, as MoCo v3 the patch projection, is trained; of an encoder that was trained by LoRA adapters new
ones are (see :mod:`.tuned`). A run and ``hfcontrast evaluate`` of what it has published give the same figure.

With ``label_share`` this is semi-supervised evaluation as in SimCLR (Chen et al., 2020, section 6, with 1 % and 10 % of the labels);
an epoch has so many fewer steps that more epochs help.
"""

from typing import Annotated, Any

from pydantic import Field

from ..errors import under
from .protocol import LABELS, TRAIN, Evaluator, Figure, NothingToEvaluate, Scores, Settings


class NoLabels(ValueError):
    """There are no labeled rows to fine-tune on, or to evaluate on."""


class FineTuning(Settings):
    """Settings of fine-tuning."""

    epochs: Annotated[int, Field(ge=1)] = Field(
        30, description="Passes over the labeled images; more of them where label_share is small."
    )
    lr: Annotated[float, Field(gt=0)] = Field(
        1e-3, description="Peak learning rate of AdamW, independent of the batch size."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.05, description="Weight decay, but of norms, biases, tokens and positions."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(64, description="Images of a step, over all processes.")
    warmup: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of the steps over which the learning rate rises; then a cosine to 0."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of the target that all classes get."
    )
    crop: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.125,
        description="Largest shift of an image in each direction, as a share of its side; what is missing is reflected.",
    )
    flip: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Probability of mirroring an image.")
    label_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of each class's images that is used, at least one; the same ones for every encoder."
    )
    seed: int = Field(0, ge=0, description="Seed of the classifier, the order, the augmentation and that choice.")
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Factor on the learning rate from each of the encoder's layers to the one below; null: one rate for all.",
    )


def __getattr__(name: str):  # the computation imports torch, which a recipe's check by the settings above does not need
    if name in ("Batches", "finetune_accuracy"):
        from . import finetune_training

        return getattr(finetune_training, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class FineTune(Evaluator):
    """Accuracy after the encoder and a linear classifier on its features are trained end to end on the labeled train images."""

    name = "finetune"
    needs = frozenset({TRAIN, LABELS})
    settings_class = FineTuning
    figures = (Figure("accuracy", "fine-tuning", headline=True),)
    when_possible = False
    thorough = trains = True
    order = 30
    task_name = "classification by the fine-tuned encoder"

    def check(self, encoder, rows, settings):
        from ..encoders.layers import layer_distances

        if settings.layer_decay is not None:
            with under("layer_decay"):
                layer_distances(encoder)  # refuses an encoder whose layers are not known

    def evaluate(self, encoder, rows, settings):
        from .counts import behind
        from .finetune_training import finetune_accuracy

        try:
            numbers: dict[str, int] = {}
            given = encoder, rows.train, rows.test, settings, None, rows.count_unknown
            accuracy = finetune_accuracy(*given, numbers, rows.tuned)
            counts: dict[str, Any] = {
                name: count
                for which, batches in (("test", rows.test), ("train", rows.train))
                if f"{which}_images" in numbers
                for name, count in behind(which, numbers[f"{which}_images"], batches).items()
            }
            if told := rows.tuned.told(encoder):
                counts["tuned"] = told
            return Scores({"accuracy": accuracy}, counts=counts, chance={"accuracy": rows.chance})
        except NoLabels as error:
            raise NothingToEvaluate(str(error)) from error

    def explain(self, settings, names):
        share = "all" if settings.label_share == 1 else f"{100 * settings.label_share:g} % of the"
        return (
            f"Fine-tuning: the encoder and a linear classifier on its features, trained end to end (of an encoder that was trained "
            f"by adapters, or with a locked tower, what is named as tuned) on {share} labeled training images, for {settings.epochs} epochs in batches of {settings.batch_size} (AdamW, learning rate {settings.lr}, weight "
            f"decay {settings.weight_decay}, label smoothing {settings.label_smoothing}, images shifted by up to "
            f"{100 * settings.crop:g} % and mirrored with probability {settings.flip})."
        )

    def conditions(self, settings):
        return super().conditions(settings) | {
            "trained": "all weights, or new adapters"
        }  # before: those that the method trains

    def reported_settings(self, settings):
        return settings.model_dump(include={"epochs", "label_share", "layer_decay"}, exclude_none=True)
