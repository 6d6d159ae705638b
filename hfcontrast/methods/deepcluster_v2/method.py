"""DeepCluster v2: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments. Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, 2020.

arXiv:2006.09882, an update of the method of Caron et al., 2018 (arXiv:1807.05520); details are those of the authors'
code (facebookresearch/swav, main_deepclusterv2.py).

Deviations from the paper:
- The authors fill the memory by one pass over the data before the training. Here that pass is the first epoch: it updates
  only the running statistics of batch normalization, as theirs does. It counts as an epoch of the schedules.
- Every process clusters the whole memory instead of a part of it, so the clusters do not depend on the number of processes.
- A centroid without images is unchanged, as in their code; so is one whose images cancel out.
- k-means starts from rows of the whole memory; in the authors' code from rows of the first process.
- The loss is the mean over the crops of the global batch whose image has a cluster; in the authors' code over each process first.
- The blur is a true Gaussian of the drawn standard deviation, its kernel cut off at four of them; the authors' PIL filter
  approximates one by box filters.
- The head's first layer has no bias, which the batch normalization after it would cancel.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import DataError
from ...nn import MemoryBank, MLPHead, all_sum, gather, shared_generator, world_size
from ..base import Frozen, Method, MethodConfig, MethodOutput, Phase, Progress
from ..swav import ASSIGNED, MULTI_CROP
from .kmeans import spherical_kmeans

UNASSIGNED = -100


@strict
class DeepClusterV2Config(MethodConfig):
    """Configuration of DeepCluster v2.

    Args:
        num_images: Images in the data set, each of which has a row in the memory; filled in by the training.
        prototypes: Clusters of each of the independent clusterings; those with an even index (from 0) cluster the first large
            crops, the others the second.
        kmeans_iterations: Iterations of k-means at the start of an epoch.
        hidden_dim: Width of the head's hidden layer.
        projection_dim: Width of the projection z that is clustered.
        temperature: Temperature of the softmax over the clusters, above 0.
    """

    model_type = "hfcontrast_deepcluster_v2"

    num_images: int | None = None
    prototypes: list[int] | tuple[int, ...] = (3000, 3000, 3000)
    kmeans_iterations: int = 10
    hidden_dim: int = 2048
    projection_dim: int = 128
    temperature: float | int = 0.1

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")

    def validate_prototypes(self):
        """There is at least one clustering, with at least one cluster."""
        if not self.prototypes or min(self.prototypes) < 1:
            raise ValueError(
                f"prototypes is {self.prototypes}, expected a list of numbers of clusters, such as [3000, 3000]"
            )

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The end of the epoch that fills the memory."""
        return [
            Phase(
                "the first epoch fills the memory",
                None,
                steps_per_epoch,
                "there are no clusters, and no weight changes",
            )
        ]


class DeepClusterV2(Method):
    """DeepCluster v2 (Caron et al., 2020, arXiv:2006.09882): all crops of an image predict its cluster of the previous epoch.

    A memory holds the latest projections of every image's two large crops. At the start of each epoch they are clustered by
    spherical k-means, several times independently; the centroids are that epoch's classifiers, and are not trained. The
    memory takes 2 x images x projection_dim x 4 bytes on every process, and in every checkpoint.
    """

    config_class = DeepClusterV2Config
    views = MULTI_CROP
    min_images_normalized = 2
    collapse_advice = "lower optim.lr, lower method.prototypes for a small data set, or lengthen the warm-up"

    def __init__(self, config: DeepClusterV2Config):
        super().__init__(config)
        if config.num_images is None:
            raise ValueError(
                "num_images is not set: DeepCluster v2 keeps a memory of all images and needs their number"
            )
        if config.num_images < max(config.prototypes):
            raise DataError(
                f"the data set has {config.num_images} images, too few for {max(config.prototypes)} clusters: lower method.prototypes"
            )
        self.projector = MLPHead(self.feature_size, config.hidden_dim, config.projection_dim)
        banks = (MemoryBank(config.num_images, config.projection_dim, momentum=0.0) for _ in range(ASSIGNED))
        self.memory = nn.ModuleList(banks)
        self.register_buffer("seen", torch.empty(config.num_images, dtype=torch.bool))
        self.register_buffer("assignments", torch.empty(len(config.prototypes), config.num_images, dtype=torch.long))
        self.register_buffer("centroids", torch.empty(sum(config.prototypes), config.projection_dim))
        self.register_buffer("clustered_epoch", torch.empty((), dtype=torch.long))
        self.post_init()

    def reset_parameters(self) -> None:
        """Empties the memory and the assignments."""
        self.seen.zero_()
        self.assignments.fill_(UNASSIGNED)
        self.centroids.zero_()
        self.clustered_epoch.zero_()

    def embed(self, pixel_values: Tensor, local_pixel_values: Tensor | None = None) -> dict[str, Tensor]:
        """Large crops (B, 2, C, H, W) and small ones (B, L, C, h, w) to features h, (B, 2 + L, D)."""
        features = self.encode(pixel_values)
        if local_pixel_values is not None:
            features = torch.cat([features, self.encode(local_pixel_values)], dim=1)
        return {"h": features}

    def objective(self, embeddings: dict[str, Tensor], index: Tensor) -> MethodOutput:
        """Cross-entropy of all crops with their image's clusters, in the mean over the clusterings.

        Args:
            embeddings: What :meth:`embed` returned.
            index: (B,) positions of the images in the data set. An image without a cluster is skipped; if none has one,
                the loss is 0.
        """
        z = F.normalize(self.projector(embeddings["h"]).float(), dim=-1)
        logits = (F.linear(z, self.centroids.to(z.dtype)).float() / self.config.temperature).split(
            tuple(self.config.prototypes), dim=-1
        )
        targets = self.assignments[:, index].unsqueeze(-1).expand(-1, -1, z.shape[1])  # (clusterings, B, V)
        total, right = z.new_zeros(()), z.new_zeros(())
        for scores, target in zip(logits, targets):
            total = total + F.cross_entropy(
                scores.flatten(0, 1), target.flatten(), ignore_index=UNASSIGNED, reduction="sum"
            )
            right = right + (scores.argmax(dim=-1) == target).sum()
        count = all_sum((targets != UNASSIGNED).sum().float()).clamp_min(1.0) / world_size()
        return MethodOutput(
            loss=total / count,
            metrics={"cluster_accuracy": right / count},
            state={"index": index, "z": z[:, :ASSIGNED].detach()},
            embeddings=z.detach(),
        )

    def before_step(self, progress: Progress) -> None:
        """Clusters the memory at the start of an epoch; a run that is resumed within an epoch has the clusters in its state."""
        if progress.epoch > int(self.clustered_epoch):
            self.clustered_epoch.fill_(progress.epoch)
            if self.seen.any():
                self.cluster(progress)

    @torch.no_grad()
    def cluster(self, progress: Progress) -> None:
        """New centroids and assignments from the images in the memory."""
        self.assignments.fill_(UNASSIGNED)
        places = self.seen.nonzero().squeeze(1)
        all_centroids = []
        for number, count in enumerate(self.config.prototypes):
            if count > len(places):
                raise DataError(
                    f"the memory holds {len(places)} images after an epoch, too few for {count} clusters: lower method.prototypes"
                )
            rows = self.memory[number % ASSIGNED].rows[places]
            generator = shared_generator(*self.random_key(number, per="epoch"))
            centroids, nearest = spherical_kmeans(rows, count, generator, self.config.kmeans_iterations)
            self.assignments[number, places] = nearest
            all_centroids.append(centroids)
        self.centroids.copy_(torch.cat(all_centroids))

    def frozen(self) -> dict[str, Frozen]:
        """All weights, in the first epoch: without a gradient they are not decayed either.

        Only the shift of the head's normalization, which is 0, keeps its gradient of 0: the scaler of fp16 wants one.
        """
        trained = (name for name, parameter in self.named_parameters() if parameter.requires_grad)
        return {name: Frozen(epochs=1) for name in trained if name != "projector.1.bias"}

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Stores the projections of the large crops in the memory."""
        for output in outputs:
            for bank, z in zip(self.memory, output.state["z"].unbind(dim=1)):
                bank.update(output.state["index"], z)
            self.seen[gather(output.state["index"])] = True
