"""NNCLR: With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual Representations. Dwibedi et al., 2021.

Debidatta Dwibedi, Yusuf Aytar, Jonathan Tompson, Pierre Sermanet, Andrew Zisserman; arXiv:2104.14548. The authors have
published no code; the loss is that of the paper's algorithm 1.

Deviations from the paper:
- The views are BYOL's.
- The loss is half the sum over the two views, as in algorithm 1. The softmax over the neighbors that section 3.2 adds
  (without an effect on the accuracy, according to it) is an option; the loss is then the mean of both.
- Brightness, contrast and initialization as in ``byol``.
"""

import math
from functools import partial
from itertools import permutations

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from torch.nn import functional as F

from ..encoders import encode
from ..losses import clip_loss, full_precision, info_nce
from ..nn import MLPHead, Queue, gather, view_by_view
from .base import Method, MethodConfig, MethodOutput, Phase, Progress
from .byol import BYOL


@strict
class NNCLRConfig(MethodConfig):
    """Configuration of NNCLR.

    Args:
        projection_dim: Width of projection, prediction and queue.
        hidden_dim: Width of the projector's two hidden layers.
        predictor_dim: Width of the predictor's hidden layer.
        queue_size: Number of earlier projections that are searched for neighbors. Smaller than the data set, or the neighbor of an
            image is its own projection of the previous epoch.
        temperature: Temperature of the loss, above 0.
        both_softmaxes: Add the softmax over the batch's neighbors.
    """

    model_type = "hfcontrast_nnclr"

    projection_dim: int = 256
    hidden_dim: int = 2048
    predictor_dim: int = 4096
    queue_size: int = 98304
    temperature: float | int = 0.1
    both_softmaxes: bool = False

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")

    def validate_queue_size(self):
        """The queue is not empty."""
        if self.queue_size < 1:
            raise ValueError(f"queue_size is {self.queue_size}, expected 1 or more")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The step at which the queue is full."""
        size = self.queue_size
        otherwise = "some neighbors remain random vectors"
        return [Phase("method.queue_size", size, math.ceil(size / batch_size), otherwise)]


@torch.no_grad()
@full_precision
def nearest(queries: Tensor, rows: Tensor) -> Tensor:
    """For each query, (B, D), the row, (K, D), with the largest inner product: (B, D)."""
    # In chunks, so that the products of a large batch with a large queue are not held in memory.
    found = [(part @ rows.T).argmax(dim=1) for part in queries.split(1024)]
    return rows[torch.cat(found)]


class NNCLR(Method):
    """NNCLR (Dwibedi et al., 2021, arXiv:2104.14548): the positive is the other view's nearest neighbor in a queue.

    InfoNCE between the neighbor of view 1's projection in the queue and view 2's prediction, among the predictions of the global
    batch, and vice versa. The projections of view 1 enter the queue after the step, so no image is its own neighbor. Encoder
    and heads run on one view at a time.
    """

    config_class = NNCLRConfig
    views = BYOL.views
    min_images_normalized = 3

    def __init__(self, config: NNCLRConfig):
        super().__init__(config)
        hidden = config.hidden_dim
        self.projector = MLPHead(self.feature_size, hidden, hidden, config.projection_dim, batch_norm_last="affine")
        self.predictor = MLPHead(config.projection_dim, config.predictor_dim, config.projection_dim)
        self.queue = Queue(config.queue_size, config.projection_dim)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to features, (B, V, D)."""
        return {"h": view_by_view(partial(encode, self.encoder), pixel_values)}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """InfoNCE between neighbors of one view and predictions of the other, mean of both directions (algorithm 1)."""
        z = view_by_view(self.projector, embeddings["h"])
        p = view_by_view(self.predictor, z)
        z = F.normalize(z.detach().float(), dim=-1)
        neighbors = torch.stack([nearest(view, self.queue.rows) for view in z.unbind(dim=1)], dim=1)
        all_neighbors, all_predictions = gather(neighbors), gather(p)
        loss = clip_loss if self.config.both_softmaxes else info_nce
        directions = [
            loss(all_neighbors[:, one], all_predictions[:, other], self.config.temperature)
            for one, other in permutations(range(z.shape[1]), 2)
        ]
        return MethodOutput(
            loss=torch.stack(directions).mean(),
            metrics={
                "neighbor_similarity": (neighbors * z).sum(-1).mean(),
                "positive_similarity": (z[:, 0] * z[:, 1]).sum(-1).mean(),
            },
            state={"z": z[:, 0]},
            embeddings=z,
        )

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Enqueues the projections of the first view."""
        for output in outputs:
            self.queue.enqueue(output.state["z"])
