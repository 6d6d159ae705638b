"""InstDisc: Unsupervised Feature Learning via Non-Parametric Instance Discrimination. Wu, Xiong, Yu, Lin, 2018.

arXiv:1805.01978; details that the paper leaves open are those of the authors' code (zhirongw/lemniscate.pytorch).

Deviations from the paper:
- An image is never among its own negatives; the authors' draws may hit it.
- The proximal term of section 3.3 is part of the method, and is added to the NCE sum of an image as in equation 11. The paper gives
  no value for its weight lambda, and the authors' released code and models have no such term: 0, as in the recipe for ImageNet. The
  default of 30 is ours and large, for short trainings: 20 short epochs on generated images learn with it and not without. The
  gradient of the term is at most 2 lambda per unit of distance, that of NCE at most 1 / temperature: 60 and 14. They are equal at
  lambda = 1 / (2 temperature), 7 at 0.07.
- Grayscale is applied after the color jitter instead of before it; augmentations work on values in [0, 1] without rounding to 8 bits.
- With more than one view (recipe), each is compared with the bank, and the mean of their embeddings updates its row.
"""

import math

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..losses import instance_softmax, nce
from ..nn import MemoryBank, chosen_products, gather, sample_others
from ..view import View
from .base import Method, MethodConfig, MethodOutput, Phase, Progress

_NEGATIVES = 1  # purpose of the random numbers


@strict
class InstDiscConfig(MethodConfig):
    """Configuration of InstDisc.

    Args:
        projection_dim: Width of the embedding, on which the loss is computed and which the memory bank keeps.
        temperature: Temperature of the softmax over images, above 0; 0.07 in the paper, 0.1 in the authors' code for CIFAR-10.
        negatives: Images drawn from the bank for each image as the noise of NCE; None uses the whole bank with the
            exact softmax.
        bank_momentum: Momentum of the rows of the bank, in [0, 1]: the weight of the old row in an update.
        proximal_weight: Weight of the squared distance between an embedding and its image's row in the bank, 0 or more; 0 in the
            authors' released code, 1 / (2 temperature) has gradients as large as those of NCE.
        num_images: Images in the data set; filled in by the training.
    """

    model_type = "hfcontrast_instdisc"

    projection_dim: int = 128
    temperature: float | int = 0.07
    negatives: int | None = 4096
    bank_momentum: float | int = 0.5
    proximal_weight: float | int = 30.0
    num_images: int | None = None

    def validate_settings(self):
        """Ranges."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")
        if self.negatives is not None and self.negatives < 1:
            raise ValueError(f"negatives is {self.negatives}, expected 1 or more, or null for the whole bank")
        if not 0 <= self.bank_momentum <= 1:
            raise ValueError(f"bank_momentum is {self.bank_momentum}, expected a number between 0 and 1")
        if self.proximal_weight < 0:
            raise ValueError(f"proximal_weight is {self.proximal_weight}, expected 0 or more")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The end of the epoch in which the rows of the bank are still random vectors."""
        return [
            Phase(
                "the first epoch fills the memory bank",
                None,
                steps_per_epoch,
                "no image is compared with its own embedding",
            )
        ]


class InstDisc(Method):
    """InstDisc (Wu et al., 2018, arXiv:1805.01978): instance discrimination with a memory bank: every image is a class.

    The bank keeps one embedding of every image of the data set. Its softmax is approximated by noise-contrastive
    estimation; the normalizing constant Z is estimated once, from the first batch.
    """

    log_partition: Tensor | None
    config_class = InstDiscConfig
    views = (
        View(
            name="view",
            size=224,
            scale=(0.2, 1.0),
            interpolation="bilinear",
            jitter=1.0,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.4,
            grayscale=0.2,
        ),
    )
    min_images = 1
    collapse_advice = "lower optim.lr or method.proximal_weight, or raise method.negatives"

    def __init__(self, config: InstDiscConfig):
        super().__init__(config)
        if config.num_images is None or config.num_images < 2:
            raise ValueError(
                f"instdisc has a memory bank with a row for every image of the data set, and num_images is {config.num_images}: set "
                "method.num_images to their number, 2 or more (hfcontrast train does it)"
            )
        self.head = nn.Linear(self.feature_size, config.projection_dim)
        self.bank = MemoryBank(config.num_images, config.projection_dim, config.bank_momentum)
        self.register_buffer("log_partition", None if config.negatives is None else torch.empty(()))
        self.post_init()

    def reset_parameters(self) -> None:
        """Resets log Z to minus infinity: not estimated yet."""
        if self.log_partition is not None:
            nn.init.constant_(self.log_partition, -math.inf)

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to features h, (B, V, D)."""
        return {"h": self.encode(pixel_values)}

    def objective(self, embeddings: dict[str, Tensor], index: Tensor) -> MethodOutput:
        """NCE, or the exact softmax, over the bank, and the proximal term, per image."""
        config = self.config
        v = F.normalize(self.head(embeddings["h"]).float(), dim=-1)
        own = self.bank.rows[index].unsqueeze(1).to(v.dtype)
        positives = (v * own).sum(dim=-1)
        state = {"index": index, "v": v.mean(dim=1).detach()}
        if self.log_partition is None:
            loss = instance_softmax(
                v.flatten(0, 1), self.bank.rows, index.repeat_interleave(v.shape[1]), config.temperature
            )
        else:
            chosen = sample_others(index, config.negatives, config.num_images, *self.random_key(_NEGATIVES))
            negatives = chosen_products(v, self.bank.rows, chosen)
            state["log_partition"] = self._known_partition(positives.detach(), negatives.detach())
            loss = nce(
                positives.flatten(),
                negatives.flatten(0, 1),
                config.temperature,
                log_noise=-math.log(config.num_images),
                log_partition=state["log_partition"],
            )
        proximal = (v - own).square().sum(dim=-1).mean()
        return MethodOutput(
            loss=loss + config.proximal_weight * proximal,
            metrics={"instance_loss": loss.detach(), "bank_similarity": positives.mean().detach()},
            state=state,
            embeddings=v.detach(),
        )

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Keeps the first batch's estimate of Z, and updates the images' rows in the bank."""
        if self.log_partition is not None:
            self.log_partition.copy_(outputs[0].state["log_partition"])
        for output in outputs:
            self.bank.update(output.state["index"], output.state["v"])

    def _known_partition(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """log Z: N times the mean of exp(s / t) over the global batch (eq. 8), unless it has been estimated already."""
        logits = torch.cat([positives.flatten(), negatives.flatten()]) / self.config.temperature
        means = gather((logits.logsumexp(dim=0) - math.log(logits.numel())).unsqueeze(0))
        estimate = means.logsumexp(dim=0) + math.log(self.config.num_images / len(means))
        return torch.where(self.log_partition.isinf(), estimate, self.log_partition)
