"""CLIP: Learning Transferable Visual Models From Natural Language Supervision. Radford, Kim, Hallacy et al., 2021.

arXiv:2103.00020; details that the paper leaves open are those of the authors' code (openai/CLIP). With a locked image tower
(``backbone.locked: [vision]``) it is LiT (Zhai et al., 2022, arXiv:2111.07991).

Deviations from the paper:
- The paper cuts a random square from the image resized to its short side; the view here is cut from at least 90 % of the
  area, with an aspect ratio between 3:4 and 4:3, as in open_clip.
- On several processes, each compares its own pairs with those of all: the loss and its gradients are those of the global batch.
- Towers of the SigLIP family are trained with this loss too. Its scale starts where CLIP's does unless released weights have one,
  and the bias of their logits, which cancels out of the loss, stays as it is.
"""

import math

import torch
from accelerate.utils import align_module_device
from huggingface_hub.dataclasses import strict
from torch import Tensor
from torch.nn import functional as F

from ..encoders.two_towers import require_two_towers
from ..losses import clip_loss, info_nce
from ..nn import gather, rank, world_size
from ..view import View
from .base import FrozenFeatures, Method, MethodConfig, MethodOutput, Progress
from .pairs import embed_pairs, frozen_image_features


@strict
class CLIPMethodConfig(MethodConfig):
    """Configuration of CLIP.

    Args:
        max_scale: Upper limit of the learned logit scale, the inverse temperature; above 0.
    """

    model_type = "hfcontrast_clip"
    default_backbone = "clip"

    max_scale: float | int = 100

    def validate_max_scale(self):
        """The logarithm of the scale needs a positive number."""
        if self.max_scale <= 0:
            raise ValueError(f"max_scale is {self.max_scale}, expected a number above 0")


class CLIP(Method):
    """CLIP (Radford et al., 2021, arXiv:2103.00020): matches images with their captions within the batch, in both directions.

    An image tower and a text tower, native to transformers, map into one space; the loss is the symmetric cross-entropy over
    the cosine similarities of the global batch, scaled by a learned temperature. The B x B matrix is never held in memory.
    """

    config_class = CLIPMethodConfig
    views = (View(name="view", size=224, scale=(0.9, 1.0), horizontal_flip=0.0),)
    collapse_advice = "lower optim.lr, raise optim.warmup_epochs or train.batch_size"

    def __init__(self, config: CLIPMethodConfig):
        super().__init__(config)
        require_two_towers(self.encoder, "clip")
        if hasattr(self.encoder, "logit_bias"):
            self.encoder.logit_bias.requires_grad_(False)
            if not self.encoder.logit_scale.is_meta:
                self.encoder.logit_scale.data.fill_(math.log(1 / 0.07))
        self.post_init()

    def embed(
        self,
        pixel_values: Tensor | None = None,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        image_features: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """(B, 1, C, H, W) images, or the features of a locked image tower, and (B, T) tokens to features of each, (B, D)."""
        return embed_pairs(self.encoder, pixel_values, input_ids, attention_mask, image_features)

    def frozen_features(self) -> dict[str, FrozenFeatures]:
        """Those of a locked image tower."""
        return frozen_image_features(self.encoder)

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The symmetric cross-entropy of this process's pairs against those of the global batch."""
        images, texts = (F.normalize(embeddings[name].float(), dim=-1) for name in ("images", "texts"))
        with align_module_device(self.encoder):  # whose own tensors may lie on a disk (device_map)
            scale = self.encoder.logit_scale.exp().squeeze()  # SigLIP's has the shape (1,)
        if world_size() == 1:
            loss = clip_loss(images, texts, 1 / scale)
        else:
            loss = (_find(images, texts, 1 / scale) + _find(texts, images, 1 / scale)) / 2
        return MethodOutput(
            loss=loss,
            metrics={
                "logit_scale": scale.detach(),
                "pair_similarity": (images * texts).sum(dim=-1).mean().detach(),
            },
            embeddings=images.detach(),
        )

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Keeps the scale at or below its limit."""
        self.encoder.logit_scale.clamp_(max=math.log(self.config.max_scale))


def _find(own: Tensor, others: Tensor, temperature: Tensor) -> Tensor:
    """InfoNCE of this process's rows among the counterparts of all processes."""
    return info_nce(own, gather(others).roll(-rank() * len(own), dims=0), temperature)
