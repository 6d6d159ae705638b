"""SwAV: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments. Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, 2020.

arXiv:2006.09882; details that the paper leaves open are those of the authors' code (facebookresearch/swav, main_swav.py).

Deviations from the paper:
- Assignments are computed from float32 scores and in logarithms, also under mixed precision: the same numbers, without overflow.
- The queue is on by default, as with the paper's batches of 256; its trainings with batches of 4096 have none (queue_length 0).
- The queue's length is not rounded down to a multiple of the batch.
- The blur is a true Gaussian of the drawn standard deviation, its kernel truncated at four of them; the authors' PIL filter
  approximates one by box filters.
- All processes share one queue; in the authors' code each has a part of it, which gives the same assignments.
- The head's first layer has no bias, which the batch normalization after it would cancel.
"""

import math

import torch
from accelerate.utils import align_module_device
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..losses import sinkhorn, swapped_prediction
from ..nn import MLPHead, Queue, gather, rank
from ..view import View
from .base import Frozen, Method, MethodConfig, MethodOutput, Phase, Progress

ASSIGNED = 2  # views, the first ones, that get assignments: crops_for_assign 0 and 1 of the authors


@strict
class SwAVConfig(MethodConfig):
    """Configuration of SwAV.

    Args:
        prototypes: Number of prototypes K; according to the paper it has little effect above a few times the number of classes.
        hidden_dim: Width of the head's hidden layer.
        projection_dim: Width of the projection z that is compared with the prototypes.
        temperature: Temperature of the predictions' softmax, above 0.
        epsilon: Smoothness of the assignments, above 0; large values make the assignments uniform.
        sinkhorn_iterations: Number of Sinkhorn-Knopp iterations.
        queue_length: Number of earlier projections of each of the two large crops that are included in the balancing; 0 for none.
            Needed if a batch has fewer images than there are prototypes.
        queue_start_epoch: Epoch from which the queue is filled; it is used once it is full.
        freeze_prototypes_steps: Number of first optimizer steps in which the prototypes are frozen; the paper's one epoch is 313
            steps with batches of 4096, 5005 with batches of 256.
    """

    model_type = "hfcontrast_swav"

    prototypes: int = 3000
    hidden_dim: int = 2048
    projection_dim: int = 128
    temperature: float | int = 0.1
    epsilon: float | int = 0.05
    sinkhorn_iterations: int = 3
    queue_length: int = 3840
    queue_start_epoch: int = 15
    freeze_prototypes_steps: int = 313

    def validate_divisors(self):
        """Temperature and epsilon are divisors."""
        for name in ("temperature", "epsilon"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")

    def validate_counts(self):
        """Prototypes and iterations are positive; the queue is optional."""
        for name, least in (("prototypes", 1), ("sinkhorn_iterations", 1), ("queue_length", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The use of the queue."""
        phases = []
        if self.queue_length:
            filled = self.queue_start_epoch * steps_per_epoch + math.ceil(self.queue_length / batch_size)
            setting = f"method.queue_length is {self.queue_length}, method.queue_start_epoch"
            phases.append(Phase(setting, self.queue_start_epoch, filled, "the queue is never full and never used"))
        return phases


MULTI_CROP_COLOR = {
    "interpolation": "bilinear",
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "jitter": 0.8,
    "grayscale": 0.2,
    "blur": 0.5,
}
MULTI_CROP = (
    View(name="global", count=2, size=224, scale=(0.14, 1.0), **MULTI_CROP_COLOR),
    View(name="local", key="local_pixel_values", count=6, size=96, scale=(0.05, 0.14), **MULTI_CROP_COLOR),
)


class SwAV(Method):
    """SwAV (Caron et al., 2020, arXiv:2006.09882): every crop predicts the cluster assignments of the other, large crops.

    The assignments are balanced over the prototypes within the global batch (and the queue), which avoids a collapse. Crops of one
    size go through the encoder together, all crops together through the head.
    """

    config_class = SwAVConfig
    views = MULTI_CROP
    min_images_normalized = 2
    collapse_advice = (
        "lower method.epsilon (0.03), lower optim.lr, freeze the prototypes longer (method.freeze_prototypes_steps), or use a "
        "queue (method.queue_length) where the batch is smaller than the number of prototypes"
    )

    def __init__(self, config: SwAVConfig):
        super().__init__(config)
        self.projector = MLPHead(self.feature_size, config.hidden_dim, config.projection_dim)
        self.prototypes = nn.Linear(config.projection_dim, config.prototypes, bias=False)
        length = config.queue_length
        self.queues = nn.ModuleList(Queue(length, config.projection_dim) for _ in range(ASSIGNED if length else 0))
        self.queue_is_full = False
        self.post_init()

    def embed(self, pixel_values: Tensor, local_pixel_values: Tensor | None = None) -> dict[str, Tensor]:
        """Large crops (B, 2, C, H, W) and small ones (B, L, C, h, w) to features h, (B, 2 + L, D)."""
        features = self.encode(pixel_values)
        if local_pixel_values is not None:
            features = torch.cat([features, self.encode(local_pixel_values)], dim=1)
        return {"h": features}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Cross-entropy of each crop's softmax over the prototypes with the assignments of the other large crops."""
        z = F.normalize(self.projector(embeddings["h"]).float(), dim=-1)
        large = z[:, :ASSIGNED].detach()
        assignments = self.assign(large)
        first, second = assignments.argmax(dim=-1).unbind(dim=1)
        return MethodOutput(
            loss=swapped_prediction(
                self.prototypes(z.to(self.prototypes.weight.dtype)), assignments, self.config.temperature
            ),
            metrics={
                "agreement": (first == second).float().mean(),
                "certainty": assignments.amax(dim=-1).mean(),
            },
            state={"z": large},
            embeddings=z.detach(),
        )

    @torch.no_grad()
    def assign(self, z: Tensor) -> Tensor:
        """Soft assignments, balanced over the global batch and the queue: (B, 2, D) of this process to (B, 2, K)."""
        with align_module_device(self.prototypes):  # which may lie on a disk (device_map)
            weight = self.prototypes.weight.float()
        assignments = []
        for crop, rows in enumerate(gather(z).unbind(dim=1)):
            earlier = self.queues[crop].rows.float() if self.queue_is_full else rows[:0]
            with torch.autocast(rows.device.type, enabled=False):
                scores = torch.cat([earlier, rows]) @ weight.T
            balanced = sinkhorn(scores, self.config.epsilon, self.config.sinkhorn_iterations)
            assignments.append(balanced[len(earlier) + rank() * len(z) :][: len(z)])
        return torch.stack(assignments, dim=1)

    @torch.no_grad()
    def before_step(self, progress: Progress) -> None:
        """Normalizes the prototypes, and checks whether the queue is full."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight.float(), dim=1))
        self.queue_is_full = len(self.queues) > 0 and all(queue.filled == len(queue.rows) for queue in self.queues)

    def frozen(self) -> dict[str, Frozen]:
        """The prototypes, during the first steps."""
        return {
            "prototypes": Frozen(steps=self.config.freeze_prototypes_steps, setting="method.freeze_prototypes_steps")
        }

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Enqueues the projections of the large crops, one queue per crop."""
        if progress.epoch < self.config.queue_start_epoch:
            return
        for output in outputs:
            for queue, z in zip(self.queues, output.state["z"].unbind(dim=1)):
                queue.enqueue(z)
