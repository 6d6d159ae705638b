"""DINOv2: Learning Robust Visual Features without Supervision. Oquab, Darcet, Moutakanni, and others, 2023.

arXiv:2304.07193, with registers arXiv:2309.16588; details that the paper leaves open are those of the authors' code
(facebookresearch/dinov2).

Deviations from the paper:
- Masks: of an image's two global crops exactly one is masked (at a mask probability of 0.5), and a mask's share of the
  patches is drawn uniformly from its range. The authors mask half of the crops of a process's batch, with
  evenly spaced shares of the range. A mask consists of at most 16 tried blocks; the authors continue until ten in a row do not fit.
- KoLeo is computed over the class tokens of the global batch; in the authors' code per GPU.
- With ``centering: softmax`` the center of the patches is the mean of all masked patches; in the authors' code the mean of
  the means of the GPUs.
- Gradients are clipped as set in the recipe; the authors clip those of encoder and heads separately.
- Views are blurred with DINO's probabilities, 1.0, 0.1 and 0.5; the authors' code, which has them inverted, with 0.0, 0.9
  and 0.5. The blur is a true Gaussian of the drawn standard deviation; the authors' has a kernel of 9 pixels.
"""

import torch
from torch import Tensor, nn

from ...encoders.embedding_initialization import initialize_dinov2_embeddings
from ...encoders.features import tokens_before_patches
from ...errors import RecipeError
from ...losses import dino_loss, ibot_loss, koleo, sinkhorn_center
from ...nn import DINOHead, Prototypes, all_sum, gather, linear, momentum_schedule
from ...view import View
from ..base import Frozen, Method, MethodOutput, Progress
from .config import DINOv2Config
from .masks import crop_masks

ENCODERS = ("dinov2", "dinov2_with_registers")  # the encoders of transformers that take masks as DINOv2 does
MASKS = 1  # purpose of the random numbers


_COLOR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter": 0.8, "grayscale": 0.2}


class DINOv2(Method):
    """DINOv2 (Oquab et al., 2023, arXiv:2304.07193): DINO on class tokens, and iBOT on masked patches.

    The teacher gets the whole global crops; the student gets them partly masked, and the local crops. It predicts the
    teacher's output for the image (DINO) and for every masked patch (iBOT). Sinkhorn-Knopp and KoLeo avoid a
    collapse. The encoder must be a Dinov2Model or a Dinov2WithRegistersModel, with random or released
    weights; the teacher's encoder is published.
    """

    config_class = DINOv2Config
    views = (
        View(name="global_1", size=224, scale=(0.32, 1.0), blur=1.0, **_COLOR),
        View(name="global_2", size=224, scale=(0.32, 1.0), blur=0.1, solarize=0.2, **_COLOR),
        View(name="local", key="local_pixel_values", count=8, size=96, scale=(0.05, 0.32), blur=0.5, **_COLOR),
    )
    teachers = {"teacher_encoder": "encoder", "teacher_heads": "heads"}
    collapse_advice = "lower optim.lr or method.teacher_temperature, or raise method.koleo_weight or train.batch_size"

    def __init__(self, config: DINOv2Config):
        super().__init__(config)
        backbone = config.backbone_config
        if backbone.model_type not in ENCODERS or self.encoder.embeddings.mask_token is None:
            raise RecipeError(
                f"DINOv2 masks patches inside the encoder, which '{backbone.model_type}' does not support as configured: use a "
                f"backbone with model_type {' or '.join(ENCODERS)} and its mask token"
            )
        initialize_dinov2_embeddings(self.encoder)
        self.encoder.embeddings.mask_token.requires_grad_(True)  # here it is trained
        self.heads = nn.ModuleDict({"class": self._head(config.bottleneck_dim, config.head_batch_norm)})
        if config.separate_heads:
            self.heads["patch"] = self._head(config.patch_bottleneck_dim or config.bottleneck_dim)
        softmax = config.centering == "softmax"
        for name in ("class_center", "patch_center"):
            self.register_buffer(name, torch.zeros(config.out_dim) if softmax else None)
        self.teacher_temperature = config.teacher_temperature
        self.post_init()

    def _head(self, bottleneck: int, batch_norm: bool = False) -> nn.Sequential:
        config = self.config
        hidden = [config.hidden_dim] * (config.head_layers - 1)
        return nn.Sequential(
            DINOHead(self.feature_size, *hidden, bottleneck, batch_norm=batch_norm, init_std=config.head_init_std),
            Prototypes(bottleneck, config.out_dim, learn_gain=config.learn_prototype_norm),
        )

    def reset_parameters(self) -> None:
        """Initial centers."""
        for center in (self.class_center, self.patch_center):
            if center is not None:
                nn.init.zeros_(center)

    def embed(self, pixel_values: Tensor, index: Tensor, local_pixel_values: Tensor | None = None) -> dict[str, Tensor]:
        """Global crops (B, T, C, H, W) and local ones (B, L, C, h, w) to class tokens and tokens of masked patches.

        Returns:
            ``student`` (B, T + L, D) and ``teacher`` (B, T, D): class tokens. ``student_patches`` and ``teacher_patches``
            (B, T, M, D): tokens of up to M masked patches of each global crop; ``patch_weights`` (B, T, M): 1 / their number,
            0 for padding.
        """
        masks = self.masks(index, pixel_values)
        student, student_tokens = self._tokens(self.encoder, pixel_values, masks)
        if local_pixel_values is not None:
            student = torch.cat([student, self.encode(local_pixel_values)], dim=1)
        with torch.no_grad():
            teacher, teacher_tokens = self._tokens(self.teacher_encoder, pixel_values)
        most = int(self.config.mask_ratio_max * masks.shape[-1])
        places = masks.long().argsort(dim=-1, descending=True, stable=True)[..., :most]  # the masked patches come first
        weights = masks.gather(-1, places) / masks.sum(dim=-1, keepdim=True).clamp_min(1)
        places = places.unsqueeze(-1).expand(-1, -1, -1, self.feature_size)
        return {
            "student": student,
            "teacher": teacher,
            "student_patches": student_tokens.gather(2, places),
            "teacher_patches": teacher_tokens.gather(2, places),
            "patch_weights": weights,
        }

    def masks(self, index: Tensor, pixel_values: Tensor) -> Tensor:
        """Which patches of the student's global crops (B, T, C, H, W) are masked in this step: (B, T, patches) bool."""
        config = self.config
        patch = self.encoder.embeddings.patch_embeddings.patch_size
        height, width = (size // side for size, side in zip(pixel_values.shape[-2:], patch))
        return crop_masks(
            index,
            (pixel_values.shape[1], height, width),
            config.mask_probability,
            (config.mask_ratio_min, config.mask_ratio_max),
            *self.random_key(MASKS),
        ).flatten(2)

    def _tokens(self, encoder: nn.Module, pixel_values: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Class tokens (B, T, D) and patch tokens (B, T, patches, D) of crops (B, T, C, H, W)."""
        masks = None if masks is None else masks.flatten(0, 1)
        tokens = encoder(pixel_values.flatten(0, 1), bool_masked_pos=masks).last_hidden_state
        tokens = tokens.unflatten(0, pixel_values.shape[:2])
        first_patch = tokens_before_patches(encoder)
        return tokens[:, :, 0], tokens[:, :, first_patch:]

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """DINO's loss on class tokens, iBOT's on masked patches, KoLeo on class tokens."""
        config = self.config
        temperatures = (config.student_temperature, self.teacher_temperature)
        weights = embeddings["patch_weights"].detach().flatten()
        places = weights.nonzero().squeeze(1)  # only masked patches: no logits of padding
        patches, teacher_patches = (
            embeddings[name].flatten(0, 2)[places] for name in ("student_patches", "teacher_patches")
        )
        patch_head = "patch" if config.separate_heads else "class"
        with torch.no_grad():
            teacher = self.teacher_heads["class"](embeddings["teacher"])
            teacher_patches = self.teacher_heads[patch_head](teacher_patches)
        crops = teacher.shape[0] * teacher.shape[1]
        dino = dino_loss(
            self.heads["class"](embeddings["student"]),
            teacher,
            self._center("class_center", teacher.flatten(0, 1)),
            *temperatures,
        )
        ibot = ibot_loss(
            self.heads[patch_head](patches),
            teacher_patches,
            weights[places] / crops,
            self._center("patch_center", teacher_patches),
            *temperatures,
        )
        spread = sum(koleo(gather(embeddings["student"][:, crop])) for crop in range(config.koleo_crops))
        return MethodOutput(
            loss=config.dino_weight * dino + config.ibot_weight * ibot + config.koleo_weight * spread,
            metrics={"dino": dino.detach(), "ibot": ibot.detach(), "koleo": spread.detach()},
            state=self._statistics(teacher.flatten(0, 1), teacher_patches),
            embeddings=embeddings["student"].detach(),
        )

    def _center(self, name: str, logits: Tensor) -> Tensor:
        """The center that is subtracted from the teacher's logits: the running mean, or that of Sinkhorn-Knopp over the global batch."""
        if (center := getattr(self, name)) is not None:
            return center
        return sinkhorn_center(logits, self.teacher_temperature, self.config.sinkhorn_iterations, _log_sum_of_processes)

    def _statistics(self, class_logits: Tensor, patch_logits: Tensor) -> dict[str, Tensor] | None:
        """Sums and counts of the teacher's logits, for the running means."""
        if self.class_center is None:
            return None
        return {
            name: torch.cat([logits.sum(dim=0, dtype=torch.float32), logits.new_tensor([len(logits)]).float()])
            for name, logits in (("class_center", class_logits), ("patch_center", patch_logits))
        }

    def before_step(self, progress: Progress) -> None:
        """The teacher's temperature of this step."""
        config = self.config
        steps = config.warmup_teacher_temperature_epochs * progress.steps_per_epoch
        fraction = progress.step / steps if steps else 1.0
        self.teacher_temperature = linear(config.warmup_teacher_temperature, config.teacher_temperature, fraction)

    def frozen(self) -> dict[str, Frozen]:
        """The prototypes of all heads, during the first epochs."""
        frozen = Frozen(self.config.freeze_last_layer_epochs, setting="method.freeze_last_layer_epochs")
        return {f"heads.{name}.{len(head) - 1}": frozen for name, head in self.heads.items()}

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the teacher, and the running means by the teacher's logits of the global batch."""
        self.update_teachers(momentum_schedule(self.config.teacher_momentum, progress.fraction))
        for name in outputs[0].state or ():
            sums = all_sum(torch.stack([output.state[name] for output in outputs]).sum(dim=0))
            if sums[-1] > 0:  # some batches have no masked patch
                center = getattr(self, name)
                center.lerp_((sums[:-1] / sums[-1]).to(center.dtype), 1.0 - self.config.center_momentum)

    def export_encoder(self):
        """The teacher."""
        return self.teacher_encoder


def _log_sum_of_processes(log_sums: Tensor) -> Tensor:
    return gather(log_sums.unsqueeze(0)).logsumexp(dim=0)
