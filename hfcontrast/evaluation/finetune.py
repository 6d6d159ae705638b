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

With ``label_share`` this is semi-supervised evaluation as in SimCLR (Chen et al., 2020, section 6, with 1 % and 10 % of the labels);
it takes so many fewer steps an epoch that more epochs are worth while.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..encoders.layers import layer_distances
from ..errors import under
from ..nn.distributed import all_sum, rank
from .finetune_training import Classifier, fit
from .protocol import LABELS, TRAIN, Evaluator, Figure, NothingToEvaluate, Scores, Settings
from .shuffled_rows import ShuffledRows

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


class NoLabels(ValueError):
    """There are no labeled rows to fine-tune on, or to evaluate on."""


class FineTuning(Settings):
    """Settings of fine-tuning."""

    epochs: Annotated[int, Field(ge=1)] = Field(
        30, description="Passes over the labeled images; more of them where label_share is small."
    )
    lr: Annotated[float, Field(gt=0)] = Field(1e-3, description="Peak learning rate of AdamW, whatever the batch size.")
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


def finetune_accuracy(
    encoder: PreTrainedModel,
    train: Batches,
    test: Batches,
    settings: FineTuning | None = None,
    trained: Collection[str] | None = None,
) -> float:
    """Top-1 accuracy after fine-tuning a copy of an encoder. Computed where the encoder is, by all processes together.

    N processes compute the gradients of one; but each normalizes by the batch statistics of its own images (on GPUs whose batch
    normalization is synchronized, of all), and draws its own dropout.

    Args:
        encoder: Any vision model; it stays as it is, and so does the global random state.
        train: Gives this process's share of the train images as batches of (N, C, H, W) pixels and (N,) labels; rows with a
            negative label are left out. See :class:`~hfcontrast.evaluation.shuffled_rows.ShuffledRows` for large ones.
        test: The same for the test images. A class that no train image has counts as wrong.
        settings: The protocol; None: its defaults.
        trained: Names of the encoder's parameters that are trained. None: those that require gradients, so that with LoRA it is
            the adapters and what was trained beside them; where none does, as of a teacher, all but mask tokens.

    Returns:
        A share in [0, 1]; chance, 1 / classes, where the training ended in numbers that are not finite.

    Raises:
        ValueError: No train row, or no test row, has a label.
    """
    settings = settings or FineTuning()
    rows = ShuffledRows(train, settings.label_share, settings.seed)
    if not len(rows.labels):
        raise NoLabels("fine-tuning needs labeled images: there is none to train on")
    home = next(encoder.parameters()).device
    devices = [home] if home.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        torch.autocast(home.type, enabled=False),
    ):
        torch.manual_seed(settings.seed + rank())  # of dropout, which is to differ between processes
        model = Classifier(encoder, len(rows.classes), settings.seed, trained)
        if not fit(model, rows, settings):
            return 1 / len(rows.classes)
        return _accuracy(model, test, rows.classes.to(home))


@torch.no_grad()
def _accuracy(model: nn.Module, test: Batches, classes: Tensor) -> float:
    """Share of the labeled test images of all processes whose label has the largest logit.

    Raises:
        ValueError: There are none.
    """
    model.eval()
    counts = torch.zeros(2, dtype=torch.long, device=classes.device)
    for pixels, labels in test():
        labeled = labels >= 0
        if labeled.any():
            logits, wanted = model(pixels[labeled]), labels[labeled].to(classes.device)
            right = (classes[logits.argmax(dim=1)] == wanted) & logits.isfinite().all(dim=1)
            counts += torch.stack([right.sum(), labeled.sum().to(classes.device)])
    right, evaluated = all_sum(counts).tolist()
    if not evaluated:
        raise NoLabels("fine-tuning needs labeled images: there is none to evaluate on")
    return right / evaluated


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
        if settings.layer_decay is not None:
            with under("layer_decay"):
                layer_distances(encoder)  # refuses an encoder whose layers are not known

    def evaluate(self, encoder, rows, settings):
        try:
            return Scores({"accuracy": finetune_accuracy(encoder, rows.train, rows.test, settings, rows.trained)})
        except NoLabels as error:
            raise NothingToEvaluate(str(error)) from error

    def explain(self, settings, names):
        share = "all" if settings.label_share == 1 else f"{100 * settings.label_share:g} % of the"
        return (
            f"Fine-tuning: the encoder and a linear classifier on its features, trained end to end on {share} labeled training "
            f"images, for {settings.epochs} epochs in batches of {settings.batch_size} (AdamW, learning rate {settings.lr}, weight "
            f"decay {settings.weight_decay}, label smoothing {settings.label_smoothing}, images shifted by up to "
            f"{100 * settings.crop:g} % and mirrored with probability {settings.flip})."
        )

    def told(self, settings):
        return settings.model_dump(include={"epochs", "label_share", "layer_decay"}, exclude_none=True)
