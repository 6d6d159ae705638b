"""MoCo: Momentum Contrast for Unsupervised Visual Representation Learning. He, Fan, Wu, Xie, Girshick, 2019.

arXiv:1911.05722; details that the paper leaves open are those of the authors' code (facebookresearch/moco).

Deviations from the paper:
- The key encoder is updated after the optimizer's step, the authors' before the next forward pass: the weights at every pass are equal.
- Shuffle-BN applies when batch statistics are per process (``train.sync_batchnorm: false``) or per group
  (``batch_norm_groups``); when all processes share them, which is hfcontrast's default, there is nothing to shuffle.
- The authors' code applies grayscale before the color jitter, here it is applied after it, as in the paper's text.
- The queue may have any size; the authors' is a multiple of the batch.
"""

import math
from functools import partial

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import RecipeError
from ...losses import queue_info_nce
from ...nn import MLPHead, Queue, shared_generator
from ...view import View
from ..base import Method, MethodConfig, MethodOutput, Phase, Progress
from .shuffle_bn import in_groups, in_shuffled_groups, own_groups

_SHUFFLE = 1  # purpose of the random numbers


@strict
class MoCoConfig(MethodConfig):
    """Configuration of MoCo.

    Args:
        projection_dim: Width of queries and keys.
        queue_size: Number of negatives K: the newest keys of earlier batches.
        temperature: Temperature of the softmax, above 0.
        momentum: Momentum of the key encoder.
        batch_norm_groups: Number of groups of the global batch with separate batch statistics, among which the keys are shuffled.
            None: one group per process if train.sync_batchnorm is false (the paper's 8 GPUs), else a single one. A
            multiple of the number of processes simulates more processes; it needs train.sync_batchnorm: false.
    """

    model_type = "hfcontrast_moco"

    projection_dim: int = 128
    queue_size: int = 65536
    temperature: float | int = 0.07
    momentum: float | int = 0.999
    batch_norm_groups: int | None = None

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")

    def validate_momentum(self):
        """The momentum is between 0 and 1."""
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum is {self.momentum}, expected a number between 0 and 1")

    def validate_counts(self):
        """The queue provides the negatives and cannot be empty."""
        for name in ("queue_size", "batch_norm_groups"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The step at which the queue is full."""
        size = self.queue_size
        otherwise = "some negatives remain random vectors"
        return [Phase("method.queue_size", size, math.ceil(size / batch_size), otherwise)]


class MoCo(Method):
    """MoCo (He et al., 2019, arXiv:1911.05722): InfoNCE between a query, its key (another view), and a queue of keys.

    Keys come from a momentum encoder, so that those of different steps agree; the queue makes the number of negatives
    independent of the batch. The query encoder is published.
    """

    config_class = MoCoConfig
    views = (
        View(
            name="view",
            count=2,
            size=224,
            scale=(0.2, 1.0),
            interpolation="bilinear",
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.4,
            jitter=1.0,
            grayscale=0.2,
        ),
    )
    min_images = 1
    teachers = {"momentum_encoder": "encoder", "momentum_head": "head"}
    collapse_advice = (
        "lower optim.lr, raise method.queue_size, or prevent batch statistics from identifying the key: "
        "train.sync_batchnorm=false with method.batch_norm_groups=4 or more"
    )

    def __init__(self, config: MoCoConfig):
        super().__init__(config)
        self.head = self.build_head()
        self.queue = Queue(config.queue_size, config.projection_dim)
        self.post_init()

    def build_head(self) -> nn.Module:
        """The head: features (B, D) to queries or keys, without batch statistics."""
        return MLPHead(self.feature_size, self.config.projection_dim)

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, 2, C, H, W), the query's view and the key's, to features of both, (B, 1, D) each."""
        check_two_views(pixel_values)
        query, key = pixel_values.split(1, dim=1)
        encode_key = partial(self.encode, encoder=self.momentum_encoder)
        groups = own_groups(self.encoder, self.config.batch_norm_groups)
        if groups is None:
            with torch.no_grad():
                keys = encode_key(key)
            return {"query": self.encode(query), "key": keys}
        generator = shared_generator(*self.random_key(_SHUFFLE))
        keys = in_shuffled_groups(encode_key, key, groups, generator, self.momentum_encoder)
        return {"query": in_groups(self.encode, query, groups, self.encoder), "key": keys}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """InfoNCE of queries, their keys and the queue (eq. 1)."""
        query = F.normalize(self.head(embeddings["query"][:, 0]).float(), dim=-1)
        with torch.no_grad():
            key = F.normalize(self.momentum_head(embeddings["key"][:, 0]).float(), dim=-1)
        return MethodOutput(
            loss=queue_info_nce(query, key, self.queue.rows, self.config.temperature),
            metrics={"positive_similarity": (query * key).sum(-1).mean().detach()},
            state={"keys": key},
            embeddings=torch.stack([query.detach(), key], dim=1),
        )

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the key encoder (eq. 2) and enqueues the keys of the batch."""
        self.update_teachers(self.config.momentum)
        for output in outputs:
            self.queue.enqueue(output.state["keys"])


def check_two_views(pixel_values: Tensor) -> None:
    """Checks that there are two views, one for queries and one for keys.

    Raises:
        RecipeError: There are not two views.
    """
    if pixel_values.shape[1] != 2:
        raise RecipeError(
            f"MoCo takes two views of an image, for the query and the key, and got {pixel_values.shape[1]}: change the count in views"
        )
