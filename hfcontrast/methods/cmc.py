"""CMC: Contrastive Multiview Coding. Tian, Krishnan, Isola, 2020.

arXiv:1906.05849; details that the paper leaves open are those of the authors' code (HobbitLong/CMC, train_CMC.py).

Deviations from the paper:
- An image is never drawn as a negative of itself; the authors' uniform draws can hit it.
- The memory banks start with random unit vectors; the authors' entries are uniform and of about unit length.
- Grays of any lightness have a = b = 0: a and b are relative to the white point of the matrix that gives X, Y, Z.
- Batch statistics are computed over all processes unless ``train.sync_batchnorm`` is false, as in the recipe for ImageNet; the authors'
  DataParallel computes them per GPU.
- All encoders have the architecture of the recipe at its full width. What the authors call ResNet50v1 is one of half the
  width (hidden_sizes [128, 256, 512, 1024]); their AlexNet is split in halves.
"""

import math
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.color_views import as_color_views
from ..losses import clip_loss, nce
from ..nn import MemoryBank, all_mean, chosen_products, gather, sample_others
from ..view import View
from .base import BySetting, Method, MethodConfig, MethodOutput, Phase, Progress


@strict
class CMCConfig(MethodConfig):
    """Configuration of CMC.

    Args:
        color_space: Colors that the views are made of: "lab", "ydbdr" or "rgb" (paper, section 4.1).
        channel_groups: The channels of each view, such as [[0], [1, 2]]; null: L and ab, Y and DbDr, or R, G and B.
        graph: Pairs of views in the loss: "full" for all of them, "core" for those with the core view (paper, eq. 6
            and 7). The same for two views.
        core_view: Index of the core view, from 0.
        projection_dim: Width of the projection on which the loss is computed.
        negatives: Negatives for each image, drawn from memory banks over the whole data set; "batch" for those in the
            batch, without banks.
        loss: Loss with negatives from the banks: "nce", or "softmax" over the positive and the negatives (paper, eq. 3).
            Within the batch it is always the softmax.
        temperature: Temperature, above 0; the authors take 0.07 on ImageNet, 0.1 on STL-10.
        bank_momentum: Momentum of the rows of the banks: the weight of the old row in an update.
        num_images: Images in the data set; filled in by the training.
        image_mean: Mean of each color that images are normalized by; filled in by the training.
        image_std: Standard deviation of each color that they are normalized by; filled in by the training.
    """

    model_type = "hfcontrast_cmc"
    renamed_settings = {"colour_space": "color_space"}

    color_space: Literal["lab", "ydbdr", "rgb"] = "lab"
    channel_groups: list[list[int]] | None = None
    graph: Literal["full", "core"] = "full"
    core_view: int = 0
    projection_dim: int = 128
    negatives: int | Literal["batch"] = 16384
    loss: Literal["nce", "softmax"] = "nce"
    temperature: float | int = 0.07
    bank_momentum: float | int = 0.5
    num_images: int | None = None
    image_mean: list | None = None
    image_std: list | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.backbone_config = as_color_views(
            self.backbone_config, self.color_space, self.channel_groups, self.image_mean, self.image_std
        )

    def validate_channel_groups(self):
        """A contrastive loss needs two views or more."""
        if len(groups := self.backbone_config.channel_groups) < 2:
            raise ValueError(f"channel_groups is {groups}, expected two lists or more of the channels 0, 1 and 2")

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")

    def validate_bank_momentum(self):
        """The momentum is between 0 and 1."""
        if not 0 <= self.bank_momentum <= 1:
            raise ValueError(f"bank_momentum is {self.bank_momentum}, expected a number between 0 and 1")

    def validate_negatives(self):
        """One negative or more, or those of the batch."""
        if self.negatives != "batch" and self.negatives < 1:
            raise ValueError(f"negatives is {self.negatives}, expected a number above 0, or batch")

    def validate_core_view(self):
        """The core view is one of the views."""
        views = len(self.backbone_config.channel_groups)
        if not 0 <= self.core_view < views:
            raise ValueError(f"core_view is {self.core_view}, expected a number from 0 to {views - 1}")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The end of the epoch in which an image's rows are still random vectors."""
        if self.negatives == "batch":
            return []
        return [
            Phase(
                "the first epoch fills the memory banks",
                None,
                steps_per_epoch,
                "no image is compared with its own embedding",
            )
        ]


class CMC(Method):
    """CMC (Tian et al., 2020, arXiv:1906.05849): the color channels of an image are views of it, each with its own encoder.

    The lightness and the color of an image are a positive pair, those of different images negatives. The published model contains
    all encoders and takes ordinary RGB images: its features are the concatenated features of the views, as in the paper's evaluation.
    """

    config_class = CMCConfig
    needs_colors = True
    views = (View(name="crop", size=224, scale=(0.08, 1.0), interpolation="bilinear", jitter=0.0),)
    min_images = BySetting("negatives", {"batch": 2}, otherwise=1)  # without banks the batch's images are the negatives
    collapse_advice = "lower optim.lr, raise method.negatives or method.temperature, or take method.negatives=batch"

    def __init__(self, config: CMCConfig):
        missing = [name for name in ("image_mean", "image_std") if getattr(config, name) is None]
        if config.negatives != "batch" and config.num_images is None:
            missing.append("num_images")
        if missing:
            raise ValueError(
                f"CMC needs {', '.join(missing)}: they are filled in by a training; set them yourself otherwise"
            )
        super().__init__(config)
        views = len(config.backbone_config.channel_groups)
        pairs = [(i, j) for i in range(views) for j in range(views) if i != j]
        if config.graph == "core":
            pairs = [pair for pair in pairs if config.core_view in pair]
        self.sources = [[i for i, j in pairs if j == view] for view in range(views)]  # of each view's bank
        width = self.feature_size // views
        self.projectors = nn.ModuleList(nn.Linear(width, config.projection_dim) for _ in range(views))
        self.banks = None
        if config.negatives != "batch":
            size = (config.num_images, config.projection_dim, config.bank_momentum)
            self.banks = nn.ModuleList(MemoryBank(*size) for _ in range(views))
            self.register_buffer("log_partition", torch.zeros(len(pairs)))
            self.register_buffer("partition_known", torch.zeros((), dtype=torch.bool))
        self.post_init()

    def reset_parameters(self) -> None:
        """The constants Z are not known yet."""
        if self.banks is not None:
            self.log_partition.zero_()
            self.partition_known.zero_()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, 1, C, H, W) to the features of the V color views, (B, V, D)."""
        if pixel_values.shape[1] != 1:
            raise ValueError(
                f"CMC takes one crop of an image, whose color channels are the views; got {pixel_values.shape[1]}"
            )
        return {"h": self.encode(pixel_values).squeeze(1).unflatten(1, (len(self.projectors), -1))}

    def objective(self, embeddings: dict[str, Tensor], index: Tensor) -> MethodOutput:
        """The sum of the losses of all pairs of views in both directions."""
        features = embeddings["h"].unbind(dim=1)
        z = torch.stack([project(h) for project, h in zip(self.projectors, features)], dim=1)
        z = F.normalize(z.float(), dim=-1)
        if self.banks is None:
            loss, state = self._contrast_batch(gather(z)), None
        else:
            loss, state = self._contrast_banks(z, index)
        return MethodOutput(loss=loss, metrics=self._similarities(z.detach()), state=state, embeddings=z.detach())

    def _similarities(self, z: Tensor) -> dict[str, Tensor]:
        """Mean similarity of two views of one image, and of different images. Only the difference is meaningful: see the model card."""
        pairs = [(z[:, i], z[:, j]) for j, sources in enumerate(self.sources) for i in sources]
        same = torch.stack([(a * b).sum() for a, b in pairs]).mean()
        whole = torch.stack([(a.sum(dim=0) * b.sum(dim=0)).sum() for a, b in pairs]).mean()
        return {
            "positive_similarity": same / len(z),
            "negative_similarity": (whole - same) / max(len(z) * (len(z) - 1), 1),
        }

    def _contrast_batch(self, z: Tensor) -> Tensor:
        pairs = [(i, j) for j, sources in enumerate(self.sources) for i in sources if i < j]
        return sum(2 * clip_loss(z[:, i], z[:, j], self.config.temperature) for i, j in pairs)  # a mean of directions

    def _contrast_banks(self, z: Tensor, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        others = sample_others(index, config.negatives, config.num_images, *self.random_key(0))
        positives, negatives = [], []
        for bank, sources in zip(self.banks, self.sources):
            queries = z[:, sources]
            positives.append((queries * bank.rows[index].unsqueeze(1)).sum(-1))
            negatives.append(chosen_products(queries, bank.rows, others))
        positives, negatives = torch.cat(positives, dim=1), torch.cat(negatives, dim=1)  # (B, pairs), (B, pairs, K)
        if config.loss == "softmax":
            logits = torch.cat([positives.unsqueeze(2), negatives], dim=2) / config.temperature
            return (logits.logsumexp(dim=2) - logits[:, :, 0]).mean(dim=0).sum(), {"index": index, "z": z.detach()}
        log_partition = self._log_partition(positives.detach(), negatives.detach())
        losses = [
            nce(near, far, config.temperature, -math.log(config.num_images), constant)
            for near, far, constant in zip(positives.unbind(1), negatives.unbind(1), log_partition)
        ]
        return sum(losses), {"index": index, "z": z.detach(), "log_partition": log_partition}

    def _log_partition(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """log Z of each pair: the sum over all images, estimated from the first batch and constant afterwards."""
        temperature = self.config.temperature
        similarities = torch.cat([positives.unsqueeze(2), negatives], dim=2)
        means = all_mean(((similarities - 1) / temperature).exp().mean(dim=(0, 2)))
        estimate = means.log() + 1 / temperature + math.log(self.config.num_images)
        return torch.where(self.partition_known, self.log_partition, estimate)

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the rows of the batch's images in the banks, and keeps the first estimate of the constants Z."""
        if self.banks is None:
            return
        states = [output.state for output in outputs]
        for state in states:
            for bank, embedding in zip(self.banks, state["z"].unbind(dim=1)):
                bank.update(state["index"], embedding)
        if self.config.loss == "nce":
            estimate = torch.stack([state["log_partition"] for state in states]).mean(dim=0)
            self.log_partition.copy_(torch.where(self.partition_known, self.log_partition, estimate))
            self.partition_known.fill_(True)
