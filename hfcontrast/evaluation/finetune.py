"""Fine-tuning: the encoder and a linear classifier on its features, trained end to end on labeled images.

How methods are judged that predict a part of the picture from the rest, beside the linear probe. The form is that of MAE (He et al.,
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

import copy
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

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
from ..nn.running_statistics import average_over_processes
from ..nn.schedule import cosine
from .shuffled_rows import ShuffledRows

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]

_NOT_DECAYED = ("class_token", "register_tokens", "mask_token", "positions", "relative_positions")


@dataclass(frozen=True)
class FineTuning:
    """The settings.

    Args:
        epochs: Passes over the labeled images.
        lr: Peak learning rate of AdamW, whose betas are 0.9 and 0.999.
        weight_decay: Of weights; not of norms, biases, tokens and positions.
        batch_size: Images of a step, over all processes.
        warmup: Share of the steps over which the learning rate rises.
        label_smoothing: Share of the target that all classes get, in [0, 1).
        crop: Largest shift in each direction, as a share of the side; what is missing is reflected.
        flip: Probability of mirroring an image.
        label_share: Share of the images of each class that is used, in (0, 1].
        seed: Seed of the classifier, the order, the augmentation and the choice of images.
        layer_decay: Factor on the learning rate from each layer of the encoder to the one below, in (0, 1]; None: one rate for all.
    """

    epochs: int = 30
    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 64
    warmup: float = 0.1
    label_smoothing: float = 0.1
    crop: float = 0.125
    flip: float = 0.5
    label_share: float = 1.0
    seed: int = 0
    layer_decay: float | None = None

    def __post_init__(self):
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}, expected a number above 0 and at most 1, or None")
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.label_share <= 1 or self.seed < 0:
            raise ValueError(
                f"{self}: epochs and batch_size are 1 or more, label_share is in (0, 1], seed is 0 or more"
            )


def finetune_accuracy(
    encoder: PreTrainedModel,
    bank: Batches,
    queries: Batches,
    settings: FineTuning = FineTuning(),
    trained: Collection[str] | None = None,
) -> float:
    """Top-1 accuracy after fine-tuning a copy of an encoder. Computed where the encoder is, by all processes together.

    N processes compute the gradients of one; but each normalizes by the batch statistics of its own images (on GPUs whose batch
    normalization is synchronized, of all), and draws its own dropout.

    Args:
        encoder: Any vision model; it stays as it is, and so does the global random state.
        bank: Gives this process's share of the training images as batches of (N, C, H, W) pixels and (N,) labels; rows with a
            negative label are left out. See :class:`~hfcontrast.evaluation.shuffled_rows.ShuffledRows` for large ones.
        queries: The same for the images that are judged. A class that the bank does not have counts as wrong.
        settings: The protocol.
        trained: Names of the encoder's parameters that are trained. None: those that require gradients, so that with LoRA it is
            the adapters and what was trained beside them; where none does, as of a teacher, all but mask tokens.

    Returns:
        A share in [0, 1]; chance, 1 / classes, where the training ended in numbers that are not finite.

    Raises:
        ValueError: No row of the bank, or of the queries, has a label.
    """
    rows = ShuffledRows(bank, settings.label_share, settings.seed)
    if not len(rows.labels):
        raise ValueError("fine-tuning needs labeled rows: the bank has none")
    home = next(encoder.parameters()).device
    devices = [home] if home.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        torch.autocast(home.type, enabled=False),
    ):
        torch.manual_seed(settings.seed + rank())  # of dropout, which is to differ between processes
        model = _Classifier(encoder, len(rows.classes), settings.seed, trained)
        if not fit(model, rows, settings):
            return 1 / len(rows.classes)
        return _accuracy(model, queries, rows.classes.to(home))


class _Classifier(nn.Module):
    """A copy of an encoder with a linear layer on its features."""

    def __init__(self, encoder: PreTrainedModel, classes: int, seed: int, trained: Collection[str] | None):
        super().__init__()
        names = set(trainable_names(encoder) if trained is None else trained)
        self.encoder = copy.deepcopy(encoder).float()
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(name in names)
        for module in self.encoder.modules():
            if type(module) is GlobalBatchNorm:
                module.__class__ = _LocalBatchNorm
        self.head = nn.Linear(feature_size(encoder), classes)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed % 2**32)
            self.head.weight.normal_(0, 0.01, generator=generator)
            self.head.bias.zero_()
        self.head.to(next(encoder.parameters()).device)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, classes) of (N, C, H, W) pixels anywhere."""
        return self.head(encode(self.encoder, pixels.to(self.head.weight)))


class _LocalBatchNorm(GlobalBatchNorm):
    """As it is while several CPU processes train, but over this process's images: here each has another number of them."""

    def _normalize_globally(self, input: Tensor) -> Tensor:
        return self._normalize(input)


def trainable_names(encoder: nn.Module) -> list[str]:
    """The parameters that require gradients; where none does, all but mask tokens."""
    names = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    return names or [name for name, _ in encoder.named_parameters() if not name.endswith("mask_token")]


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
    encoder, prefix = (model.encoder, "encoder.") if isinstance(model, _Classifier) else (model, "")
    with under("layer_decay"):
        distances = {} if layer_decay is None else layer_distances(encoder)
    kinds, groups = named_kinds(model), {}
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


@torch.no_grad()
def _accuracy(model: nn.Module, queries: Batches, classes: Tensor) -> float:
    """Share of the labeled queries of all processes whose label has the largest logit.

    Raises:
        ValueError: There are none.
    """
    model.eval()
    counts = torch.zeros(2, dtype=torch.long, device=classes.device)
    for pixels, labels in queries():
        labeled = labels >= 0
        if labeled.any():
            logits, wanted = model(pixels[labeled]), labels[labeled].to(classes.device)
            right = (classes[logits.argmax(dim=1)] == wanted) & logits.isfinite().all(dim=1)
            counts += torch.stack([right.sum(), labeled.sum().to(classes.device)])
    right, judged = all_sum(counts).tolist()
    if not judged:
        raise ValueError("fine-tuning needs labeled rows: the queries have none")
    return right / judged
