"""The computation of fine-tuning: a copy of an encoder with a linear classifier, its training, and its accuracy afterwards."""

import copy
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ..encoders.features import encode, feature_size
from ..encoders.layers import layer_distances, named_kinds
from ..errors import under
from ..nn.batch_norm import GlobalBatchNorm
from ..nn.distributed import all_sum, rank, world_size
from ..nn.random import generator_kept
from ..nn.running_statistics import average_over_processes
from ..nn.schedule import cosine
from .features import join_processes
from .finetune import FineTuning, NoLabels
from .shuffled_rows import ShuffledRows
from .tuned import Tuned, tuned_copy

logger = logging.getLogger(__name__)

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
_NOT_DECAYED = ("class_token", "register_tokens", "mask_token", "positions", "relative_positions")


def finetune_accuracy(
    encoder: PreTrainedModel,
    train: Batches,
    test: Batches,
    settings: FineTuning | None = None,
    trained: Collection[str] | None = None,
    count_unknown: Callable[[Tensor, Tensor], None] | None = None,
    numbers: dict[str, int] | None = None,
    tuned: Tuned | None = None,
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
        trained: Names of the encoder's parameters that are trained, instead of ``tuned``.
        count_unknown: Is given the labels of all test images and the different ones of the train images, to count those of other classes.
        numbers: Is given how many images were used, as ``test_images`` and ``train_images``.
        tuned: What of the encoder is trained. None: all of it but mask tokens, or new adapters where it has some.

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
    with (
        generator_kept(home),
        torch.enable_grad(),
        torch.autocast(home.type, enabled=False),
    ):
        torch.manual_seed(settings.seed + rank())  # of dropout, which is to differ between processes
        model = Classifier(encoder, len(rows.classes), settings.seed, trained, tuned)
        if not fit(model, rows, settings):
            logger.warning(
                "fine-tuning ended in weights that are NaN or infinite: its accuracy is given as that of chance"
            )
            if numbers is not None:
                numbers["train_images"] = len(rows.labels)
            return 1 / len(rows.classes)
        accuracy, labels = _accuracy(model, test, rows.classes.to(home))
        if numbers is not None:
            numbers |= {"test_images": int((labels >= 0).sum()), "train_images": len(rows.labels)}
        if count_unknown:
            count_unknown(labels, rows.classes)
        return accuracy


@torch.no_grad()
def _accuracy(model: nn.Module, test: Batches, classes: Tensor) -> tuple[float, Tensor]:
    """Share of the labeled test images of all processes whose label has the largest logit, and the labels of all, on the CPU.

    Raises:
        ValueError: There are none.
    """
    model.eval()
    counts = torch.zeros(2, dtype=torch.long, device=classes.device)
    given = [torch.zeros(0, dtype=torch.long)]
    for pixels, labels in test():
        given.append(labels.cpu())
        labeled = labels >= 0
        if labeled.any():
            logits, wanted = model(pixels[labeled]), labels[labeled].to(classes.device)
            right = (classes[logits.argmax(dim=1)] == wanted) & logits.isfinite().all(dim=1)
            counts += torch.stack([right.sum(), labeled.sum().to(classes.device)])
    right, evaluated = all_sum(counts).tolist()
    if not evaluated:
        raise NoLabels("fine-tuning needs labeled images: there is none to evaluate on")
    return right / evaluated, join_processes(torch.cat(given))


class Classifier(nn.Module):
    """A copy of an encoder with a linear layer on its features."""

    def __init__(
        self,
        encoder: PreTrainedModel,
        classes: int,
        seed: int,
        trained: Collection[str] | None = None,
        tuned: Tuned | None = None,
    ):
        super().__init__()
        tuned = tuned or Tuned()
        if trained is None:
            self.encoder = tuned_copy(encoder, tuned, seed)
        else:
            self.encoder = copy.deepcopy(encoder).float()
            for name, parameter in self.encoder.named_parameters():
                parameter.requires_grad_(name in trained)
        self.locked = tuned.locked
        for module in self.encoder.modules():
            if type(module) is GlobalBatchNorm:
                module.__class__ = _LocalBatchNorm
        self.head = nn.Linear(feature_size(encoder), classes)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed % 2**32)
            self.head.weight.normal_(0, 0.01, generator=generator)
            self.head.bias.zero_()
        self.head.to(next(encoder.parameters()).device)

    def train(self, mode: bool = True) -> "Classifier":
        """As of any module; a locked image tower stays in evaluation mode."""
        super().train(mode)
        if self.locked:
            self.encoder.get_submodule("vision_model").eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, classes) of (N, C, H, W) pixels anywhere."""
        return self.head(encode(self.encoder, pixels.to(self.head.weight)))


class _LocalBatchNorm(GlobalBatchNorm):
    """As it is while several CPU processes train, but over this process's images: here each has another number of them."""

    def _normalize_globally(self, input: Tensor) -> Tensor:
        return self._normalize(input)


def fit(model: nn.Module, rows: ShuffledRows, settings: FineTuning) -> bool:
    """Trains the parameters that require gradients; returns whether all numbers are finite. The model is in training mode then."""
    groups = parameter_groups(model, settings.weight_decay, settings.layer_decay)
    optimizer = torch.optim.AdamW(groups, settings.lr)
    steps = rows.steps(settings.batch_size)
    step, total = 0, steps * settings.epochs
    model.train()
    for epoch in range(settings.epochs):
        for pixels, labels, draws in rows.epoch(epoch, settings.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * group["lr_scale"] * lr_factor(step, total, settings.warmup)
            targets = torch.searchsorted(rows.classes, labels)
            pixels = shift_and_flip(pixels, draws, settings.crop, settings.flip)
            _step(model, optimizer, pixels, targets, settings.label_smoothing)
            step += 1
        if not _finite(model):
            return False
    return _finite(model)


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float | None = None) -> list[dict]:
    """What is trained, with and without weight decay, and by the factor on the learning rate, ``lr_scale``."""
    encoder, prefix = (model.encoder, "encoder.") if isinstance(model, Classifier) else (model, "")
    with under("layer_decay"):
        distances = {} if layer_decay is None else layer_distances(encoder)
    groups: dict[Any, Any] = {}
    kinds = named_kinds(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim < 2 or name.endswith(".bias") or kinds.get(name) in _NOT_DECAYED
            scale = (layer_decay or 1.0) ** distances.get(name.removeprefix(prefix), 0)
            groups.setdefault((not spared, scale), []).append(parameter)
    ordered = sorted(groups.items(), reverse=True)
    return [
        {"params": found, "weight_decay": weight_decay * decayed, "lr_scale": scale}
        for (decayed, scale), found in ordered
    ]


def lr_factor(step: int, total: int, warmup: float) -> float:
    """The learning rate of a step, counted from 0, as a share of its peak: a line up, then a cosine down to 0."""
    rising = warmup * total
    if step < rising:
        return min((step + 1) / rising, 1.0)
    return cosine(1.0, 0.0, (step - rising) / (total - rising))


def shift_and_flip(pixels: Tensor, draws: Tensor, crop: float, flip: float) -> Tensor:
    """Images shifted by whole pixels, with what is missing reflected, and mirrored.

    Args:
        pixels: (N, C, H, W).
        draws: (N, 3) in [0, 1): the shift down, the shift to the right, and whether it is mirrored (below ``flip``).
        crop: Largest shift as a share of the side.
        flip: Share of the images that are mirrored.

    Returns:
        (N, C, H, W).
    """
    indices = []
    for size, draw in zip(pixels.shape[2:], draws.unbind(1)[:2]):
        reach = min(round(crop * size), max(size - 1, 0))
        shift = (draw * (2 * reach + 1)).long() - reach
        index = (torch.arange(size) + shift[:, None]).abs()
        indices.append(torch.where(index < size, index, 2 * (size - 1) - index))
    down, right = indices
    right = torch.where(draws[:, 2:] < flip, right.flip(1), right)
    image, color = torch.arange(len(pixels))[:, None, None, None], torch.arange(pixels.shape[1])[:, None, None]
    return pixels[image, color, down[:, None, :, None], right[:, None, None, :]]


def _step(model: nn.Module, optimizer: Optimizer, pixels: Tensor, targets: Tensor, label_smoothing: float) -> None:
    """One update by the mean over the images of all processes; a process without one takes part as well."""
    own = count = len(pixels)
    if count < 2:  # what batch statistics need; the second says nothing beyond them
        pixels = torch.cat([pixels, pixels, pixels.new_zeros(2, *pixels.shape[1:])])[:2]
    logits = model(pixels)[:count]
    F.cross_entropy(logits, targets.to(logits.device), reduction="sum", label_smoothing=label_smoothing).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if world_size() > 1:
        whole = all_sum(torch.cat([*(gradient.flatten() for gradient in gradients), logits.new_tensor([count])]))
        parts = whole[:-1].split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients)])
        count = int(whole[-1])
        if count:
            average_over_processes(model, own)
    torch._foreach_div_(gradients, max(count, 1))
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def _finite(model: nn.Module) -> bool:
    """Whether all weights and statistics are finite numbers, on all processes."""
    values = [value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point()]
    wrong = torch.stack([(~value.isfinite()).any() for value in values]).any()
    return not all_sum(wrong.long())
