"""MetricLearning: embeddings whose distances follow the labels. Hadsell et al., 2006; Schroff et al., 2015; Sohn, 2016.

Pairs: "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006. Triplets: "FaceNet", arXiv:1503.03832, and
Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017, arXiv:1703.07737. N-pairs: "Improved Deep Metric Learning with
Multi-class N-pair Loss Objective", NIPS 2016. Views and head: Roth et al., 2020, arXiv:2002.08473, and the authors' code
(Confusezius/Revisiting_Deep_Metric_Learning_PyTorch).

Deviations from the papers:
- Batches are drawn from all images, without class-balanced sampling. Two views per image, the default, ensure a positive for
  each; with one view (``views: {view: {count: 1}}``) only images that share their class with another one of the batch have
  positives.
- N-pairs: all pairs of a class with more than one pair in the batch are used, in several N-pair losses; the loss is the mean over pairs.
- Pairs: all pairs of the batch, without balancing the few positive and many negative ones.
- Embeddings are normalized for pairs too; Hadsell et al. do not normalize them.
"""

from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..losses import n_pair, pairwise_contrastive, triplet
from ..nn import MLPHead, gather, own_classes
from ..view import View
from .base import Method, MethodConfig, MethodOutput


@strict
class MetricLearningConfig(MethodConfig):
    """Configuration of metric learning.

    Args:
        loss: "contrastive" (pairs with a margin), "triplet" or "n_pair".
        mining: Triplets in the loss: "all" with a loss above 0, for each pair the "semi-hard" negative (FaceNet),
            or for each anchor the "hard" ones (Hermans et al.).
        margin: Margin of pairs and triplets, above 0; null takes 1 for pairs and 0.2 for triplets (FaceNet).
        soft_margin: Softplus in place of the triplets' margin (Hermans et al.).
        squared: Squared distances in triplets, as in FaceNet, rather than distances, as in Hermans et al.
        penalty: Weight of the mean squared length of the embeddings, for N-pairs, which are not normalized; 0.01 is Sohn's 0.02
            with the factor of a quarter per embedding of a pair that Roth et al.'s code reports of his implementation.
        embedding_dim: Width of the embedding.
        hidden_dim: Width of a hidden layer before it; null: the embedding is a linear map of the features.
        normalize: Scale the embeddings to unit length; null: for all losses but "n_pair", as Roth et al. do.
        freeze_batch_norm: Keep the running statistics of the encoder's batch normalization (Roth et al.); only for
            pretrained encoders.
    """

    model_type = "hfcontrast_metric_learning"

    loss: Literal["contrastive", "triplet", "n_pair"] = "triplet"
    mining: Literal["all", "semi-hard", "hard"] = "semi-hard"
    margin: float | int | None = None
    soft_margin: bool = False
    squared: bool = True
    penalty: float | int = 0.01
    embedding_dim: int = 128
    hidden_dim: int | None = None
    normalize: bool | None = None
    freeze_batch_norm: bool = False

    def validate_margin(self):
        """Margins are positive."""
        if self.margin is not None and self.margin <= 0:
            raise ValueError(f"margin is {self.margin}, expected a number above 0, or null for the paper's")

    def validate_penalty(self):
        """The penalty is not negative."""
        if self.penalty < 0:
            raise ValueError(f"penalty is {self.penalty}, expected 0 or more")


class MetricLearning(Method):
    """MetricLearning (Hadsell 2006, Schroff 2015, Sohn 2016): pulls embeddings of one class together and separates the classes.

    Pairs, triplets or N-pairs of the global batch of all processes, by their labels. An image without a label (-1) is its
    own class.
    """

    config_class = MetricLearningConfig
    views = (View(name="view", count=2, size=224, scale=(0.08, 1.0), interpolation="bilinear"),)
    collapse_advice = 'take method.mining="semi-hard" rather than "hard", lower optim.lr, or raise train.batch_size'

    def __init__(self, config: MetricLearningConfig):
        super().__init__(config)
        hidden = [] if config.hidden_dim is None else [config.hidden_dim]
        self.head = MLPHead(self.feature_size, *hidden, config.embedding_dim, batch_norm=False)
        self.normalize = config.loss != "n_pair" if config.normalize is None else config.normalize
        self.post_init()

    def train(self, mode: bool = True) -> "MetricLearning":
        """Sets the training mode; frozen batch normalization stays in evaluation mode."""
        super().train(mode)
        if self.config.freeze_batch_norm:
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.training = False
        return self

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to embeddings z, (B, V, D)."""
        z = self.head(self.encode(pixel_values)).float()
        return {"z": F.normalize(z, dim=-1) if self.normalize else z}

    def objective(self, embeddings: dict[str, Tensor], labels: Tensor) -> MethodOutput:
        """The loss over all views of the global batch."""
        config = self.config
        z = gather(embeddings["z"])
        # Ordered by view, so that consecutive embeddings of a class are of different images if it has several.
        labels = own_classes(gather(labels)).repeat(z.shape[1])
        z = z.transpose(0, 1).flatten(0, 1)
        if config.loss == "contrastive":
            loss = pairwise_contrastive(z, labels, 1.0 if config.margin is None else config.margin)
        elif config.loss == "triplet":
            margin = None if config.soft_margin else 0.2 if config.margin is None else config.margin
            loss = triplet(z, labels, margin, config.mining, config.squared)
        else:
            loss = n_pairs_by_label(z, labels, config.penalty)
        return MethodOutput(
            loss=loss,
            metrics={"positives": _positives(labels).mean(), "length": z.detach().norm(dim=-1).mean()},
            embeddings=embeddings["z"].detach(),
        )


def _positives(labels: Tensor) -> Tensor:
    """(N,) number of others with the same label."""
    _, classes, counts = labels.unique(return_inverse=True, return_counts=True)
    return (counts[classes] - 1).float()


def n_pairs_by_label(embeddings: Tensor, labels: Tensor, penalty: float = 0.0) -> Tensor:
    """The N-pair loss of a batch in which classes have any number of embeddings.

    Each class's first and second embedding are a pair, its third and fourth another, and so on. The first pairs of all classes
    form one N-pair loss, the second pairs another: no loss has two pairs of one class.

    Args:
        embeddings: (N, D).
        labels: (N,).
        penalty: Weight of the mean squared length.

    Returns:
        Scalar, the mean over all pairs; 0, with a gradient of zero, where no class has two embeddings.
    """
    order = labels.argsort(stable=True)
    _, counts = labels[order].unique_consecutive(return_counts=True)
    within = torch.arange(len(labels), device=labels.device)
    within = within - (counts.cumsum(0) - counts).repeat_interleave(counts)  # position within the class
    first = (within % 2 == 0) & (within < (counts - 1).repeat_interleave(counts))
    positions = first.nonzero().squeeze(1)
    anchors, positives, rounds = order[positions], order[positions + 1], within[positions] // 2
    total = embeddings.sum() * 0.0
    for number in range(int(counts.max()) // 2):
        chosen = rounds == number
        pairs = embeddings[anchors[chosen]], embeddings[positives[chosen]]
        total = total + n_pair(*pairs, penalty) * chosen.sum()
    return total / max(len(positions), 1)
