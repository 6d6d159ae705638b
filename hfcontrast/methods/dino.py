"""DINO: Emerging Properties in Self-Supervised Vision Transformers. Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, 2021.

arXiv:2104.14294; details that the paper leaves open are those of the authors' code (facebookresearch/dino).

Deviations from the paper:
- The blur is a true Gaussian of the drawn standard deviation; the authors' PIL filter approximates one by box filters.
- The warm-up of the teacher's temperature over n epochs reaches its end at epoch n; the authors' reaches it at epoch n - 1.
- Student and teacher views of one size go through the head together (it has no batch statistics by default).
- The encoder is initialized as in its architecture. The authors' ViT is timm's, except for a class token of N(0, 0.02^2), which in timm
  is N(0, 10^-12); the patch projection has torch's initialization in their code and N(0, 0.02^2) in transformers.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..losses import dino_loss
from ..nn import DINOHead, Prototypes, all_mean, linear, momentum_schedule
from ..view import View
from .base import Frozen, Method, MethodConfig, MethodOutput, Phase, Progress


@strict
class DINOConfig(MethodConfig):
    """Configuration of DINO.

    Args:
        out_dim: Number of prototypes K, the width of the distribution that is matched.
        hidden_dim: Width of the head's hidden layers.
        bottleneck_dim: Width of the head's normalized bottleneck.
        head_layers: Number of linear layers before the prototypes.
        head_batch_norm: Batch normalization in the head; the paper uses it with convolutional encoders only.
        head_init_std: Standard deviation of the heads' initial weights, as in the authors' code. For narrow heads, as in the quick
            recipes, null (that of torch.nn.Linear) learns faster.
        learn_prototype_norm: Learn the norms of the prototypes rather than fix them at 1 (norm_last_layer=False in the
            authors' code; can help, can destabilize).
        freeze_last_layer_epochs: Number of first epochs in which the prototypes are frozen.
        student_temperature: Temperature of the student's softmax.
        warmup_teacher_temperature: Teacher's temperature at the start.
        teacher_temperature: Teacher's temperature after the warm-up; above 0.07 training is often unstable.
        warmup_teacher_temperature_epochs: Epochs over which the teacher's temperature rises linearly.
        teacher_momentum: Momentum of the teacher at the start; it rises to 1 along a cosine.
        center_momentum: Momentum of the center's moving average.
    """

    model_type = "hfcontrast_dino"

    out_dim: int = 65536
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    head_layers: int = 3
    head_batch_norm: bool = False
    head_init_std: float | int | None = 0.02
    learn_prototype_norm: bool = False
    freeze_last_layer_epochs: int = 1
    student_temperature: float | int = 0.1
    warmup_teacher_temperature: float | int = 0.04
    teacher_temperature: float | int = 0.04
    warmup_teacher_temperature_epochs: int = 0
    teacher_momentum: float | int = 0.996
    center_momentum: float | int = 0.9

    def validate_temperatures(self):
        """Temperatures divide."""
        for name in ("student_temperature", "warmup_teacher_temperature", "teacher_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")

    def validate_momenta(self):
        """Momenta are shares."""
        for name in ("teacher_momentum", "center_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number between 0 and 1")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The end of the temperature's warm-up."""
        return head_phases(self, steps_per_epoch)


_COLOR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter": 0.8, "grayscale": 0.2}


class DINO(Method):
    """DINO (Caron et al., 2021, arXiv:2104.14294): a student predicts, from any crop, its momentum teacher's output on a large crop.

    The teacher gets the two global crops, the student all crops; centering and sharpening of the teacher's output avoid
    a collapse. The teacher's encoder is published.
    """

    config_class = DINOConfig
    views = (
        View(name="global_1", size=224, scale=(0.4, 1.0), blur=1.0, **_COLOR),
        View(name="global_2", size=224, scale=(0.4, 1.0), blur=0.1, solarize=0.2, **_COLOR),
        View(name="local", key="local_pixel_values", count=8, size=96, scale=(0.05, 0.4), blur=0.5, **_COLOR),
    )
    min_images = 1
    teachers = {"teacher_encoder": "encoder", "teacher_head": "head", "teacher_prototypes": "prototypes"}

    def __init__(self, config: DINOConfig):
        super().__init__(config)
        hidden = [config.hidden_dim] * (config.head_layers - 1)
        self.head = DINOHead(
            self.feature_size,
            *hidden,
            config.bottleneck_dim,
            batch_norm=config.head_batch_norm,
            init_std=config.head_init_std,
        )
        self.prototypes = Prototypes(config.bottleneck_dim, config.out_dim, learn_gain=config.learn_prototype_norm)
        self.register_buffer("center", torch.zeros(config.out_dim))
        self.teacher_temperature = config.teacher_temperature
        self.post_init()

    def reset_parameters(self) -> None:
        """Initial center."""
        nn.init.zeros_(self.center)

    def embed(self, pixel_values: Tensor, local_pixel_values: Tensor | None = None) -> dict[str, Tensor]:
        """Global crops (B, T, C, H, W) and local ones (B, L, C, h, w) to features: student (B, T + L, D), teacher (B, T, D)."""
        features = self.encode(pixel_values)
        if local_pixel_values is not None:
            features = torch.cat([features, self.encode(local_pixel_values)], dim=1)
        with torch.no_grad():
            teacher = self.encode(pixel_values, self.teacher_encoder)
        return {"student": features, "teacher": teacher}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Cross-entropy of the student with the centered, sharpened teacher over the prototypes."""
        bottleneck = self.head(embeddings["student"])
        student = self.prototypes(bottleneck)
        with torch.no_grad():
            teacher = self.teacher_prototypes(self.teacher_head(embeddings["teacher"]))
        temperatures = (self.config.student_temperature, self.teacher_temperature)
        return MethodOutput(
            loss=dino_loss(student, teacher, self.center, *temperatures),
            state={"teacher_mean": teacher.mean(dim=(0, 1), dtype=torch.float32)},
            embeddings=bottleneck.detach(),
        )

    def before_step(self, progress: Progress) -> None:
        """The teacher's temperature of this epoch."""
        config = self.config
        self.teacher_temperature = linear(
            config.warmup_teacher_temperature,
            config.teacher_temperature,
            progress.epochs(config.warmup_teacher_temperature_epochs),
        )

    def frozen(self) -> dict[str, Frozen]:
        """The prototypes, during the first epochs."""
        return {"prototypes": Frozen(self.config.freeze_last_layer_epochs, setting="method.freeze_last_layer_epochs")}

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the teacher, and the center by the mean of the teacher's logits over the global batch (eq. 4)."""
        self.update_teachers(momentum_schedule(self.config.teacher_momentum, progress.fraction))
        batch_mean = all_mean(torch.stack([output.state["teacher_mean"] for output in outputs]).mean(dim=0))
        self.center.lerp_(batch_mean.to(self.center.dtype), 1.0 - self.config.center_momentum)

    def export_encoder(self):
        """The teacher, which is the better of the two (paper, section 5.1)."""
        return self.teacher_encoder


def head_phases(config: PreTrainedConfig, steps_per_epoch: int) -> list[Phase]:
    """The phases of a training that the settings of DINO's heads define."""
    phases = []
    warmup = config.warmup_teacher_temperature_epochs
    if warmup and config.warmup_teacher_temperature != config.teacher_temperature:
        otherwise = f"the teacher's temperature never reaches {config.teacher_temperature:g}"
        phases.append(Phase("method.warmup_teacher_temperature_epochs", warmup, warmup * steps_per_epoch, otherwise))
    return phases
