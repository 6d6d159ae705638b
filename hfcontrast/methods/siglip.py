"""SigLIP: Sigmoid Loss for Language Image Pre-Training. Zhai, Mustafa, Kolesnikov, Beyer, 2023.

arXiv:2303.15343; details that the paper leaves open are those of the authors' code (google-research/big_vision).

Deviations from the paper:
- Where the paper passes the texts from device to device, each process gathers the (small) text features of all and computes
  their similarities with its own images in tiles: no process holds the B x B matrix, and the sums are the same.
- A backbone without a bias of the logits (any but SigLIP's own) gets one here; it is not part of the exported model, whose
  rankings do not depend on it. The scale then starts at the paper's, also where released weights, such as CLIP's, have another:
  beside a bias of -10 a scale of 100 makes every pair a confident error.
- The view is CLIP's; the paper resizes the whole image to a square.
"""

import math

import torch
from accelerate.utils import align_module_device
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.two_towers import require_two_towers
from ..losses import siglip_loss
from ..nn import gather, rank
from ..view import View
from .base import FrozenFeatures, Method, MethodConfig, MethodOutput
from .pairs import embed_pairs, frozen_image_features

_SCALE = math.log(10)


@strict
class SigLIPMethodConfig(MethodConfig):
    """Configuration of SigLIP.

    Args:
        bias: Initial bias of the logits, if the backbone or its released weights have none; -10 in the paper.
    """

    model_type = "hfcontrast_siglip"
    default_backbone = "siglip"

    bias: float | int = -10


class SigLIP(Method):
    """SigLIP (Zhai et al., 2023, arXiv:2303.15343): classifies for every image-text pair whether they belong together.

    Towers as in CLIP; the loss is a sigmoid cross-entropy over all pairs of the global batch, with a learned scale and a learned
    bias, which starts low because nearly all pairs are negative.
    """

    config_class = SigLIPMethodConfig
    views = (View(name="view", size=224, scale=(0.9, 1.0), horizontal_flip=0.0),)
    collapse_advice = "lower optim.lr, raise optim.warmup_epochs or train.batch_size"

    def __init__(self, config: SigLIPMethodConfig):
        super().__init__(config)
        require_two_towers(self.encoder, "siglip")
        self.own_bias = None if hasattr(self.encoder, "logit_bias") else LogitBias(config.bias)
        if not self.encoder.logit_scale.is_meta:  # backbones other than SigLIP's start with CLIP's
            self.encoder.logit_scale.data.fill_(_SCALE)
        self.post_init()

    @torch.no_grad()
    def after_loading(self, names: frozenset[str]) -> None:
        """Scale and bias belong together: where either is not among the released weights, both start as in the paper."""
        if not {"logit_scale", "logit_bias"} <= names:
            self.encoder.logit_scale.fill_(_SCALE)
            if self.own_bias is None:
                self.encoder.logit_bias.fill_(self.config.bias)

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
        """The sigmoid loss of this process's images with the texts of the global batch."""
        images, texts = (F.normalize(embeddings[name].float(), dim=-1) for name in ("images", "texts"))
        with align_module_device(self.encoder):  # whose own tensors may lie on a disk (device_map)
            scale = self.encoder.logit_scale.exp()
            bias = self.encoder.logit_bias if self.own_bias is None else self.own_bias()
        return MethodOutput(
            loss=siglip_loss(images, gather(texts), scale, bias, first=rank() * len(images)),
            metrics={
                "logit_scale": scale.detach().squeeze(),
                "logit_bias": bias.detach().squeeze(),
                "pair_similarity": (images * texts).sum(dim=-1).mean().detach(),
            },
            embeddings=images.detach(),
        )


class LogitBias(nn.Module):
    """A learned scalar.

    Args:
        start: Initial value.
    """

    def __init__(self, start: float):
        super().__init__()
        self.start = start
        self.value = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def forward(self) -> Tensor:
        """The scalar."""
        return self.value

    def reset_parameters(self) -> None:
        """Resets it to the initial value."""
        nn.init.constant_(self.value, self.start)
