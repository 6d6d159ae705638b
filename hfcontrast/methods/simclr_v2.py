"""SimCLR v2: Big Self-Supervised Models are Strong Semi-Supervised Learners. Chen, Kornblith, Swersky, Norouzi, Hinton, 2020.

arXiv:2006.10029; details that the paper leaves open are those of the authors' code (google-research/simclr).

Deviations from the paper:
- Those of SimCLR (``simclr.py``).
- How the memory enters the loss is not stated and not in the authors' code; here its vectors, projections of both views by the
  momentum network, are further negatives in NT-Xent's denominators; positives and the negatives of the batch are unchanged.
- ResNets with selective kernels are timm's (``skresnet50`` and others), which differ in details from the authors'.
- Fine-tuning and distillation are not part of the pretraining; ``finetune_encoder`` returns the network for fine-tuning.
"""

import math

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from ..encoders.encoder_with_head import (
    EncoderWithHeadConfig,
    EncoderWithHeadForImageClassification,
    EncoderWithHeadModel,
)
from ..losses import nt_xent, nt_xent_memory
from ..nn import MLPHead, Queue, gather
from .base import Method, MethodConfig, MethodOutput, Phase, Progress
from .simclr import SimCLR

AutoConfig.register(EncoderWithHeadConfig.model_type, EncoderWithHeadConfig, exist_ok=True)
AutoModel.register(EncoderWithHeadConfig, EncoderWithHeadModel, exist_ok=True)
AutoModelForImageClassification.register(EncoderWithHeadConfig, EncoderWithHeadForImageClassification, exist_ok=True)


@strict
class SimCLRV2Config(MethodConfig):
    """Configuration of SimCLR v2.

    Args:
        projection_dim: Width of the projection z on which the loss is computed.
        hidden_dim: Width of the head's other layers; None takes the encoder's feature width, as the paper does.
        head_layers: Layers of the projection head; the paper compares 2, 3 and 4.
        keep_head_layers: Number of first layers of the head that ``finetune_encoder()`` keeps: in the paper 1 for few
            labels, 0 for all labels.
        temperature: Temperature of NT-Xent, above 0.
        memory: Add a momentum network and a queue of its projections as further negatives.
        memory_size: Projections in the queue.
        memory_momentum: Momentum of the momentum network.
    """

    model_type = "hfcontrast_simclr_v2"

    projection_dim: int = 128
    hidden_dim: int | None = None
    head_layers: int = 3
    keep_head_layers: int = 1
    temperature: float | int = 0.1
    memory: bool = False
    memory_size: int = 65536
    memory_momentum: float | int = 0.999

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")

    def validate_memory(self):
        """The memory is not empty, and the momentum is between 0 and 1."""
        if self.memory_size < 1:
            raise ValueError(f"memory_size is {self.memory_size}, expected 1 or more")
        if not 0 <= self.memory_momentum <= 1:
            raise ValueError(f"memory_momentum is {self.memory_momentum}, expected a number between 0 and 1")

    def validate_head(self):
        """At least the last layer of the head is discarded."""
        if self.head_layers < 1:
            raise ValueError(f"head_layers is {self.head_layers}, expected 1 or more")
        if not 0 <= self.keep_head_layers < self.head_layers:
            raise ValueError(
                f"keep_head_layers is {self.keep_head_layers}, expected at least 0 and less than head_layers, {self.head_layers}"
            )

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The step at which the memory is full."""
        if not self.memory:
            return []
        size = self.memory_size
        otherwise = "some negatives remain random vectors"
        return [Phase("method.memory_size", size, math.ceil(size / (2 * batch_size)), otherwise)]


class SimCLRV2(Method):
    """SimCLR v2 (Chen et al., 2020, arXiv:2006.10029): SimCLR with a deeper projection head, of which the first layer is kept.

    Two views of an image are positives; negatives are all other images of the global batch and, optionally, a memory of earlier
    projections. The encoder is published; ``finetune_encoder()`` of the whole method, in the folder ``method``, returns it
    with the head's first layer on top, for fine-tuning on few labels.
    """

    config_class = SimCLRV2Config
    views = SimCLR.views
    min_images_normalized = 2

    def __init__(self, config: SimCLRV2Config):
        super().__init__(config)
        hidden = [config.hidden_dim or self.feature_size] * (config.head_layers - 1)
        self.projector = MLPHead(self.feature_size, *hidden, config.projection_dim, batch_norm_last="scale")
        if config.memory:
            self.memory = Queue(config.memory_size, config.projection_dim)
            self.teachers = {"memory_encoder": "encoder", "memory_projector": "projector"}
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to features h, (B, V, D), and with a memory those of the momentum network."""
        embeddings = {"h": self.encode(pixel_values)}
        if self.config.memory:
            with torch.no_grad():
                embeddings["memory_h"] = self.encode(pixel_values, self.memory_encoder)
        return embeddings

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """NT-Xent over the projections of the global batch, and of the memory, if there is one."""
        z = F.normalize(self.projector(embeddings["h"]).float(), dim=-1)
        state = None
        if self.config.memory:
            loss = nt_xent_memory(gather(z), self.memory.rows, self.config.temperature)
            with torch.no_grad():
                state = {"memory": self.memory_projector(embeddings["memory_h"]).flatten(0, 1)}
        else:
            loss = nt_xent(gather(z), self.config.temperature)
        similarity = (z[:, 0] * z[:, 1]).sum(-1).mean()
        return MethodOutput(
            loss=loss,
            metrics={"positive_similarity": similarity.detach()},
            state=state,
            embeddings=z.detach(),
        )

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the momentum network and enqueues its projections of the batch."""
        if self.config.memory:
            self.update_teachers(self.config.memory_momentum)
            for output in outputs:
                self.memory.enqueue(output.state["memory"])

    def finetune_encoder(self, head_layers: int | None = None) -> EncoderWithHeadModel:
        """A copy of the encoder with the first layers of the head on top, for fine-tuning (paper, section 2).

        Saved with ``save_pretrained``, it loads through ``AutoModel``, and through ``AutoModelForImageClassification`` with
        a new classifier (``trust_remote_code=True`` where hfcontrast is not installed)::

            method = AutoModel.from_pretrained("outputs/NAME/method")     # after `import hfcontrast`
            method.finetune_encoder().save_pretrained("my_encoder")
            model = AutoModelForImageClassification.from_pretrained("my_encoder", num_labels=10)

        Args:
            head_layers: Number of layers, fewer than the head has; None takes ``keep_head_layers``.

        Raises:
            ValueError: The head does not have that many layers before its last one.
        """
        count = self.config.keep_head_layers if head_layers is None else head_layers
        if not 0 <= count < self.config.head_layers:
            raise ValueError(f"head_layers is {count}, expected at least 0 and less than {self.config.head_layers}")
        config = EncoderWithHeadConfig(
            backbone_config=self.encoder.config.to_dict(),
            feature_size=self.feature_size,
            hidden_size=(self.config.hidden_dim or self.feature_size) if count else self.feature_size,
            head_layers=count,
            class_token=getattr(self.encoder, "pooler", True) is None,
        )
        # Saving adds the class that is saved; the classifier comes from the same file.
        config.auto_map = {"AutoModelForImageClassification": "encoder_with_head.EncoderWithHeadForImageClassification"}
        model = EncoderWithHeadModel(config)
        model.encoder.load_state_dict(self.encoder.state_dict())
        kept = nn.Sequential(*list(self.projector)[: 3 * count])  # linear, batch normalization, ReLU
        model.head.load_state_dict(kept.state_dict())
        return model.eval()
