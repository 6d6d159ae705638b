"""The settings of DINOv2."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ..base import MethodConfig, Phase
from ..dino import head_phases


@strict
class DINOv2Config(MethodConfig):
    """Configuration of DINOv2.

    Args:
        out_dim: Number of prototypes K of each head; the paper's largest models have 131072.
        hidden_dim: Width of the heads' hidden layers.
        bottleneck_dim: Width of the heads' normalized bottleneck.
        patch_bottleneck_dim: The same in the patches' head; None takes bottleneck_dim.
        head_layers: Number of linear layers before the prototypes.
        head_batch_norm: Batch normalization in the class tokens' head (ours, for very short trainings).
        head_init_std: Standard deviation of the heads' initial weights, as in the authors' code. For narrow heads, as in the quick
            recipes, null (that of torch.nn.Linear) learns faster.
        separate_heads: A separate head for the patches, as in all of the paper's experiments; false: one head for both.
        learn_prototype_norm: Learn the norms of the prototypes rather than fix them at 1; the authors learn them.
        freeze_last_layer_epochs: Number of first epochs in which the prototypes are frozen.
        dino_weight: Weight of the loss on class tokens.
        ibot_weight: Weight of the loss on masked patches.
        koleo_weight: Weight of the KoLeo regularizer.
        koleo_crops: Number of global crops with a KoLeo term on their class tokens: 1 in the paper; 2, summed, in the authors' code.
        mask_probability: Share of the student's global crops that are masked.
        mask_ratio_min: Smallest share of masked patches.
        mask_ratio_max: Largest share of masked patches.
        centering: "sinkhorn": Sinkhorn-Knopp assignments of the teacher; "softmax": a running mean is subtracted, as in
            DINO.
        sinkhorn_iterations: Iterations of Sinkhorn-Knopp.
        center_momentum: Momentum of the running mean (centering: softmax).
        student_temperature: Temperature of the student's softmax.
        warmup_teacher_temperature: Teacher's temperature at the start.
        teacher_temperature: Teacher's temperature after the warm-up.
        warmup_teacher_temperature_epochs: Epochs over which the teacher's temperature rises linearly.
        teacher_momentum: Momentum of the teacher at the start; it rises to 1 along a cosine. 0.994 for the paper's large models.
    """

    model_type = "hfcontrast_dinov2"

    out_dim: int = 65536
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    patch_bottleneck_dim: int | None = None
    head_layers: int = 3
    head_batch_norm: bool = False
    head_init_std: float | int | None = 0.02
    separate_heads: bool = True
    learn_prototype_norm: bool = True
    freeze_last_layer_epochs: int = 1
    dino_weight: float | int = 1.0
    ibot_weight: float | int = 1.0
    koleo_weight: float | int = 0.1
    koleo_crops: Literal[1, 2] = 1
    mask_probability: float | int = 0.5
    mask_ratio_min: float | int = 0.1
    mask_ratio_max: float | int = 0.5
    centering: Literal["sinkhorn", "softmax"] = "sinkhorn"
    sinkhorn_iterations: int = 3
    center_momentum: float | int = 0.9
    student_temperature: float | int = 0.1
    warmup_teacher_temperature: float | int = 0.04
    teacher_temperature: float | int = 0.07
    warmup_teacher_temperature_epochs: int = 30
    teacher_momentum: float | int = 0.992

    def validate_temperatures(self):
        """Temperatures are divisors."""
        for name in ("student_temperature", "warmup_teacher_temperature", "teacher_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")

    def validate_shares(self):
        """Momenta, probabilities and ratios are between 0 and 1."""
        for name in ("teacher_momentum", "center_momentum", "mask_probability", "mask_ratio_min", "mask_ratio_max"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number between 0 and 1")
        if self.mask_ratio_min > self.mask_ratio_max:
            raise ValueError(f"mask_ratio_min is {self.mask_ratio_min}, above mask_ratio_max {self.mask_ratio_max}")

    def validate_heads(self):
        """The number of masked patches differs between processes, so there are no batch statistics over them."""
        if self.head_batch_norm and not self.separate_heads:
            raise ValueError("head_batch_norm normalizes class tokens only: it needs separate_heads")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The end of the temperature's warm-up."""
        return head_phases(self, steps_per_epoch)
