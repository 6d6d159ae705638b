"""data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language. Baevski, Hsu, Xu, and others, 2022.

arXiv:2202.03555, for images; details that the paper leaves open are those of the authors' code for vision
(facebookresearch/data2vec_vision, built on BEiT's). The paper says that targets are in general the outputs of the blocks' MLPs
before the last residual connection; the commands of that code take the blocks' outputs after it, and so do the defaults here
(``target_features: ffn`` is the other).

Deviations from the paper:
- Masks are a function of the run's seed, the epoch and the sample, and hide the same number of patches in every image: patches
  that 32 blocks leave unmasked are chosen next to them. The authors draw new masks in every step, and some masks are a few patches short.
- Color augmentation is applied after the crop; in the authors' code before it, on the whole image.
"""

from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel

from ...encoders.depth_initialization import draw, initialize_by_depth
from ...encoders.patch_tokens import choose, enlarge, token_grid
from ...errors import RecipeError
from ...nn import linear
from ...nn.feature_colors import PrincipalColors, color_image
from ...nn.masks.places import places_of
from ...view import View
from ..base import Method, MethodConfig, MethodOutput, Phase, Progress
from .masks import exact_block_masks, numbers_for_mask

MASKS = 1  # what the random numbers are for
_POSITIONS = ("use_absolute_position_embeddings", "use_relative_position_bias", "use_shared_relative_position_bias")


@strict
class Data2VecConfig(MethodConfig):
    """Configuration of data2vec.

    Args:
        mask_ratio: Share of the patches that are masked in the student's input, above 0 and below 1.
        min_block: Smallest area of a block of masked patches.
        average_top_k_layers: Number of last blocks of the teacher whose outputs are averaged to the targets.
        target_features: "block": the blocks' outputs; "ffn": those of their MLPs, before the residual connection.
        loss_beta: Threshold of the smooth L1 loss between squared and absolute errors, above 0.
        ema_decay: Momentum of the teacher at the start.
        ema_end_decay: Momentum of the teacher at the end; between them it changes linearly. 0.9999 in the second half of
            the 1600 epochs of the paper's ViT-L.
        ema_anneal_end_step: Optimizer steps until the end; None: all.
    """

    model_type = "hfcontrast_data2vec"
    default_backbone = "data2vec-vision"

    mask_ratio: float | int = 0.6
    min_block: int = 16
    average_top_k_layers: int = 6
    target_features: Literal["block", "ffn"] = "block"
    loss_beta: float | int = 2.0
    ema_decay: float | int = 0.9998
    ema_end_decay: float | int = 0.9998
    ema_anneal_end_step: int | None = None

    def validate_shares(self):
        """Some patches are masked and some are visible; momenta are between 0 and 1."""
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, expected a number above 0 and below 1")
        for name in ("ema_decay", "ema_end_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number between 0 and 1")

    def validate_numbers(self):
        """Blocks, layers and steps are positive; the beta is a divisor."""
        for name in ("min_block", "average_top_k_layers", "ema_anneal_end_step"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.loss_beta <= 0:
            raise ValueError(f"loss_beta is {self.loss_beta}, expected a number above 0")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The end of the change of the momentum."""
        if self.ema_anneal_end_step is None or self.ema_decay == self.ema_end_decay:
            return []
        otherwise = f"the teacher's momentum never reaches {self.ema_end_decay:g}"
        return [Phase("method.ema_anneal_end_step", self.ema_anneal_end_step, self.ema_anneal_end_step, otherwise)]


class Data2Vec(Method):
    """data2vec (Baevski et al., 2022, arXiv:2202.03555): predicts a teacher's features at masked patches.

    The teacher is a moving average of the student and gets the whole image; the targets are the mean of the normalized outputs of
    its last blocks. The encoder is a Data2VecVisionModel, which is given a mask token and, if it has no position embeddings, a shared
    relative position bias, as in the authors' code. The student is published, which the authors fine-tune.
    """

    config_class = Data2VecConfig
    views = (View(size=224, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4),)
    min_images = 1
    teachers = {"teacher": "encoder"}
    collapse_advice = "raise method.ema_decay, lower optim.lr, or lengthen optim.warmup_epochs"

    def __init__(self, config: Data2VecConfig):
        complete_backbone(config.backbone_config)
        super().__init__(config)
        layers = config.backbone_config.num_hidden_layers
        if config.average_top_k_layers > layers:
            raise ValueError(
                f"average_top_k_layers is {config.average_top_k_layers}, but the encoder has {layers} blocks: use at most that many"
            )
        initialize_encoder(self.encoder)
        self.encoder.embeddings.mask_token.requires_grad_(True)  # here it is trained
        self.encoder.config.feature_pooling = "mean"
        norm = nn.LayerNorm(self.feature_size, eps=1e-6)
        normalized = isinstance(self.encoder.layernorm, nn.LayerNorm)  # not with use_mean_pooling, the default
        self.head = nn.Sequential(
            nn.Identity() if normalized else norm, nn.Linear(self.feature_size, self.feature_size)
        )
        self.post_init()

    def reset_parameters(self) -> None:
        """Initializes the head as in the authors' code."""
        draw(self.head[1].weight, self.encoder.config.initializer_range, cut=True)
        nn.init.zeros_(self.head[1].bias)

    def embed(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Crops (B, V, C, H, W) to the predictions and the targets.

        Returns:
            ``prediction`` and ``target`` (B, V, M, D) of the hidden patches; ``features`` (B, V, D), the student's mean.
        """
        crops = pixel_values.flatten(0, 1)
        hidden, _ = places_of(self.masks(index, crops))
        tokens = self.student(crops, hidden)
        embeddings = {
            "prediction": self.head(choose(tokens, hidden)).float(),
            "target": choose(self.targets(crops), hidden),
            "features": tokens.mean(dim=1),
        }
        return {name: value.unflatten(0, pixel_values.shape[:2]) for name, value in embeddings.items()}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Smooth L1, the mean over all masked patches, whose number is the same for every image."""
        prediction, target = embeddings["prediction"], embeddings["target"].detach()
        return MethodOutput(
            loss=F.smooth_l1_loss(prediction, target, beta=float(self.config.loss_beta)),
            metrics={
                "prediction_std": prediction.detach().flatten(0, -2).std(dim=0).mean(),
                "target_std": target.flatten(0, -2).std(dim=0).mean(),
            },
            embeddings=embeddings["features"].detach(),
        )

    def masks(self, index: Tensor, crops: Tensor) -> Tensor:
        """Which patches of crops (N, C, H, W) are masked in the student's input: (N, T) bool."""
        grid = token_grid(self.encoder, crops)
        count, patches, numbers = len(crops), grid[0] * grid[1], numbers_for_mask(*grid)
        uniform = self.random_uniform(index, count // len(index) * numbers, MASKS).view(count, numbers)
        hidden = max(min(round(self.config.mask_ratio * patches), patches - 1), 1)
        return exact_block_masks(uniform, hidden, *grid, least=self.config.min_block).flatten(1)

    def student(self, crops: Tensor, hidden: Tensor) -> Tensor:
        """Tokens of all patches (N, T, D), of crops with masked patches at the positions (N, M)."""
        grid = token_grid(self.encoder, crops)
        mask = torch.zeros(len(crops), grid[0] * grid[1], dtype=torch.bool, device=crops.device)
        return self.encoder(crops, bool_masked_pos=mask.scatter(1, hidden, True)).last_hidden_state[:, 1:]

    @torch.no_grad()
    def targets(self, crops: Tensor) -> Tensor:
        """The mean of the teacher's last blocks, each normalized, normalized again: (N, T, D) float32."""
        outputs = self._mlp_outputs(crops) if self.config.target_features == "ffn" else self._block_outputs(crops)
        chosen = [output[:, 1:].float() for output in outputs[-self.config.average_top_k_layers :]]
        width = chosen[0].shape[-1:]
        mean = torch.stack([F.layer_norm(output, width) for output in chosen]).mean(dim=0)
        return F.layer_norm(mean, width)

    def _block_outputs(self, crops: Tensor) -> list[Tensor]:
        return list(self.teacher(crops, output_hidden_states=True).hidden_states[1:])

    def _mlp_outputs(self, crops: Tensor) -> list[Tensor]:
        layers, outputs = self.teacher.encoder.layer, []
        hooks = [layer.output.register_forward_hook(lambda *call: outputs.append(call[-1])) for layer in layers]
        try:
            self.teacher(crops)
        finally:
            for hook in hooks:
                hook.remove()
        scales = [1.0 if layer.lambda_2 is None else layer.lambda_2 for layer in layers]
        return [scale * output for scale, output in zip(scales, outputs)]

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Moves the teacher."""
        config = self.config
        end = config.ema_anneal_end_step
        elapsed = progress.step / end if end else progress.fraction
        self.update_teachers(linear(config.ema_decay, config.ema_end_decay, elapsed))

    @property
    def compiled_modules(self) -> tuple[str, ...]:  # type: ignore[override]
        """Not the teacher where hooks capture its inner outputs."""
        return ("encoder",) if self.config.target_features == "ffn" else ()

    def visualize(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The masked images, and features as colors: the teacher's, and the predicted ones at masked patches."""
        image = pixel_values[:, 0]
        grid, size = token_grid(self.encoder, image), tuple(image.shape[-2:])
        mask = self.masks(index, image)
        hidden, _ = places_of(mask)
        targets = self.targets(image)
        in_color = PrincipalColors(targets)
        predicted = in_color(self.head(choose(self.student(image, hidden), hidden)))
        places = hidden.unsqueeze(-1).expand(-1, -1, 3)
        colors = torch.zeros(*targets.shape[:2], 3, device=image.device).scatter(1, places, predicted)
        return {
            "masked": image * ~enlarge(mask.unflatten(1, grid), size),
            "target features": color_image(in_color(targets), grid, size),
            "predicted features": color_image(colors, grid, size),
            "original": image,
        }


def initialize_encoder(encoder: PreTrainedModel) -> None:
    """Initializes a Data2VecVisionModel as in the authors' code; tables of relative positions stay 0.

    Args:
        encoder: The encoder; the standard deviation is its ``initializer_range``.
    """
    std = encoder.config.initializer_range
    initialize_by_depth(encoder, encoder.encoder.layer, ("attention.output.dense", "output.dense"), std, cut=True)
    for name in ("cls_token", "mask_token", "position_embeddings"):
        if (tokens := getattr(encoder.embeddings, name)) is not None:
            draw(tokens, std, cut=True)


def complete_backbone(config: PreTrainedConfig) -> None:
    """Sets the mask token and the position embeddings that data2vec needs in the encoder's configuration.

    Raises:
        RecipeError: It is the configuration of another model.
    """
    if config.model_type != "data2vec-vision":
        raise RecipeError(
            f"data2vec masks patches inside the encoder and reads its blocks, which '{config.model_type}' does not support: use "
            "a backbone with model_type data2vec-vision"
        )
    config.use_mask_token = True
    if not any(getattr(config, name) for name in _POSITIONS):
        config.use_shared_relative_position_bias = (
            True  # as in the authors' code; without any, the encoder would not know positions
        )
