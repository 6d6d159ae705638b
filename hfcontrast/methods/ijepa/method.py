"""I-JEPA: Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture. Assran, Duval, and others, 2023.

arXiv:2301.08243; details that the paper leaves open are those of the authors' code (facebookresearch/ijepa). Two of them
differ from the paper, and are followed here: the loss is smooth L1, where the paper has the squared distance; and the target
encoder's features are normalized per patch before the loss.

Deviations from the paper:
- Masks are drawn for each image independently, as a function of the run's seed, the epoch and the sample. In the authors' code the
  blocks of a batch have one size, and all masks are truncated to the shortest of the batch; here none is truncated, and
  shorter ones are padded with masking. So contexts are larger: with 16 x 16 patches 118 on average; in the authors' code 112 before
  truncation and 69 to 73 after, in batches of 128 to 64 images (with 14 x 14 patches 91; there 84, and 50 to 54).
- A target's scale and its aspect ratio are drawn independently, and blocks can cover every patch; in the authors' code one number
  determines both, and blocks are at least one patch smaller than the image and never touch its last row and column.
- If the targets leave the context too few patches, 8 positions of it are tried before a target is kept in it; the authors try 20.
- Position embeddings have the row's half first, the authors' the column's.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ...encoders.depth_initialization import initialize_by_depth
from ...encoders.patch_tokens import choose, embed_patches, enlarge, require_vit, run_layers, token_grid
from ...encoders.vit import fix_positions, sincos_positions
from ...nn import linear
from ...nn.distributed import mean_of_terms
from ...nn.feature_colors import PrincipalColors, color_image
from ...nn.masks.places import places_of
from ...nn.transformer import BRANCH_ENDS, TransformerBlocks
from ...view import View
from ..base import Method, MethodConfig, MethodOutput, Progress
from .masks import multi_block_masks, numbers_for_blocks

MASKS = 1  # purpose of the random numbers


@strict
class IJEPAConfig(MethodConfig):
    """Configuration of I-JEPA.

    Args:
        targets: Number of target blocks of an image.
        target_scale: Range of a target block's share of the patches.
        target_aspect: Range of the ratio of a target block's height to its width.
        context_scale: Range of the context block's share of the patches, before the targets are removed.
        min_keep: Minimum number of patches in the context; at most a quarter of all.
        predictor_width: Width of the predictor, a multiple of 4.
        predictor_depth: Blocks of the predictor; 12 for a ViT-L or larger.
        predictor_heads: Attention heads of the predictor; None takes as many as the encoder has.
        momentum: Momentum of the target encoder at the start; it rises to 1 linearly.
    """

    model_type = "hfcontrast_ijepa"
    default_backbone = "ijepa"

    targets: int = 4
    target_scale: list | tuple = (0.15, 0.2)
    target_aspect: list | tuple = (0.75, 1.5)
    context_scale: list | tuple = (0.85, 1.0)
    min_keep: int = 10
    predictor_width: int = 384
    predictor_depth: int = 6
    predictor_heads: int | None = None
    momentum: float | int = 0.996

    def validate_ranges(self):
        """Ranges are two numbers, the lower one first."""
        for name, most in (("target_scale", 1), ("target_aspect", float("inf")), ("context_scale", 1)):
            limits = getattr(self, name)
            if len(limits) != 2 or not 0 < limits[0] <= limits[1] <= most:
                bound = "within (0, 1]" if most == 1 else "above 0"
                raise ValueError(f"{name} is {list(limits)}, expected a range [low, high] {bound}")

    def validate_numbers(self):
        """Numbers of targets and of patches are positive."""
        for name in ("targets", "min_keep", "predictor_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.predictor_width < 4 or self.predictor_width % 4:
            raise ValueError(f"predictor_width is {self.predictor_width}, expected a multiple of 4")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum is {self.momentum}, expected a number between 0 and 1")


class IJEPA(Method):
    """I-JEPA (Assran et al., 2023, arXiv:2301.08243): predicts the features of target blocks from a context block.

    The encoder processes only the patches of the context; a narrow predictor gets the positions of a target block and predicts the
    features of the target encoder, a moving average of the encoder, which processes the whole image. There is no color
    augmentation. The encoder is an IJepaModel; the target encoder is published.
    """

    config_class = IJEPAConfig
    views = (View(size=224, scale=(0.3, 1.0), interpolation="bilinear", horizontal_flip=0.0, jitter=0.0),)
    min_images = 1
    # Both encoders and the predictor run on a subset of the tokens.
    compiled_modules = ("encoder.layers", "target_encoder.layers", "predictor.blocks.layers")
    teachers = {"target_encoder": "encoder"}
    collapse_advice = "raise method.momentum, lower optim.lr, or lengthen optim.warmup_epochs"

    def __init__(self, config: IJEPAConfig):
        super().__init__(config)
        require_vit(self.encoder, "I-JEPA", ("ijepa",))
        heads = config.predictor_heads or self.encoder.config.num_attention_heads
        std = self.encoder.config.initializer_range
        initialize_by_depth(self.encoder, self.encoder.layers, BRANCH_ENDS, std)
        fix_positions(self.encoder)
        attention = self.encoder.config._attn_implementation
        sizes = config.predictor_width, config.predictor_depth, heads
        self.predictor = Predictor(self.feature_size, *sizes, std, attention=attention)
        self.post_init()

    def embed(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Crops (B, V, C, H, W) to the errors of their predictions.

        Returns:
            ``error`` (B,), the sum of the errors of ``predicted`` (B,) patches, each the mean over the features' entries;
            ``context`` (B,), the number of context patches; ``features`` (B, V, D): the target encoder's, of whole crops.
        """
        count = pixel_values.shape[1]
        crops = pixel_values.flatten(0, 1)
        context, targets = self.masks(index, crops)
        features = self.target_features(crops)
        wanted = F.layer_norm(features.float(), features.shape[-1:])
        prediction, places, present = self.predict(crops, context, targets)
        wanted = choose(wanted, places.flatten(1)).view_as(prediction)
        errors = F.smooth_l1_loss(prediction.float(), wanted, reduction="none").mean(dim=-1) * present
        return {
            "error": errors.sum(dim=(1, 2)).unflatten(0, (-1, count)).sum(dim=1),
            "predicted": present.sum(dim=(1, 2)).unflatten(0, (-1, count)).sum(dim=1),
            "context": context.sum(dim=1).unflatten(0, (-1, count)).sum(dim=1),
            "features": features.mean(dim=1).unflatten(0, (-1, count)),
        }

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The mean over all patches of all target blocks of the global batch; a patch in two blocks counts twice."""
        return MethodOutput(
            loss=mean_of_terms(embeddings["error"], embeddings["predicted"]),
            metrics={
                "context_patches": embeddings["context"].float().mean(),
                "predicted_patches": embeddings["predicted"].float().mean(),
            },
            embeddings=embeddings["features"].detach(),
        )

    def masks(self, index: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
        """The context (N, T) and the targets (N, M, T) of crops (N, C, H, W); bool."""
        config = self.config
        grid = token_grid(self.encoder, crops)
        numbers = numbers_for_blocks(config.targets)
        uniform = self.random_uniform(index, len(crops) // len(index) * numbers, MASKS).view(len(crops), numbers)
        context, targets = multi_block_masks(
            uniform,
            grid,
            config.targets,
            tuple(config.target_scale),
            tuple(config.target_aspect),
            tuple(config.context_scale),
            min(config.min_keep, max(grid[0] * grid[1] // 4, 1)),
        )
        return context.flatten(1), targets.flatten(2)

    @torch.no_grad()
    def target_features(self, crops: Tensor) -> Tensor:
        """Features of all patches by the target encoder, (N, T, D)."""
        tokens, _ = embed_patches(self.target_encoder, crops)
        return run_layers(self.target_encoder, tokens)

    def predict(self, crops: Tensor, context: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts the target blocks' features from the context.

        Returns:
            Predictions (N, M, K, D) at the positions (N, M, K) of the blocks' patches, and which of those are not padding.
        """
        tokens, _ = embed_patches(self.encoder, crops)
        seen, is_seen = places_of(context)
        encoded = run_layers(self.encoder, choose(tokens, seen), is_seen[:, None, None])
        places, present = places_of(targets)
        grid = token_grid(self.encoder, crops)
        return self.predictor(encoded, seen, is_seen, places, present, grid), places, present

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the target encoder."""
        self.update_teachers(linear(self.config.momentum, 1.0, progress.fraction))

    def export_encoder(self) -> PreTrainedModel:
        """The target encoder."""
        return self.target_encoder

    def visualize(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Context and target blocks of the images, and features as colors: the target encoder's and the predicted ones."""
        image = pixel_values[:, 0]
        grid, size = token_grid(self.encoder, image), tuple(image.shape[-2:])
        context, targets = self.masks(index, image)
        wanted = self.target_features(image).float()
        wanted = F.layer_norm(wanted, wanted.shape[-1:])
        prediction, places, present = self.predict(image, context, targets)
        in_color = PrincipalColors(wanted)
        colors = torch.zeros(*wanted.shape[:2], 3, device=wanted.device)
        for block in range(places.shape[1]):  # where blocks overlap, the last one is shown
            sample, rank = present[:, block].nonzero(as_tuple=True)
            colors[sample, places[sample, block, rank]] = in_color(prediction[sample, block, rank])
        shown = [enlarge(mask.unflatten(1, grid), size) for mask in (context, targets.any(dim=1))]
        return {
            "context": image * shown[0],
            "targets": image * shown[1],
            "target features": color_image(in_color(wanted), grid, size),
            "predicted features": color_image(colors, grid, size),
            "original": image,
        }


class Predictor(nn.Module):
    """I-JEPA's predictor: maps the features of the context and the positions of a target block to the features at these.

    Args:
        feature_size: Width D of the encoder's tokens.
        width: Width of the predictor.
        depth: Number of its blocks.
        heads: Attention heads.
        std: Standard deviation of the initial weights.
        attention: Implementation of the attention; that of the encoder.
    """

    def __init__(
        self,
        feature_size: int,
        width: int,
        depth: int,
        heads: int,
        std: float = 0.02,
        attention: str | None = None,
    ):
        super().__init__()
        self.width, self.std = width, std
        self.embed = nn.Linear(feature_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.blocks = TransformerBlocks(width, depth, heads, attention=attention, masked=True)
        self.project = nn.Linear(width, feature_size)

    def forward(
        self, encoded: Tensor, seen: Tensor, is_seen: Tensor, places: Tensor, present: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Predicts every target block separately.

        Args:
            encoded: (N, L, D) features of the context.
            seen: (N, L) its positions.
            is_seen: (N, L) bool, which of them are not padding.
            places: (N, M, K) positions of the target blocks' patches.
            present: (N, M, K) bool, which of them are not padding.
            grid: Rows and columns of the patches.

        Returns:
            (N, M, K, D).
        """
        count = places.shape[1]
        context = self.embed(encoded)
        positions = sincos_positions(*grid, self.width).to(context)
        context = (context + positions[seen]).repeat_interleave(count, dim=0)
        queries = (self.mask_token.to(context.dtype) + positions[places]).flatten(0, 1)
        visible = torch.cat([is_seen.repeat_interleave(count, dim=0), present.flatten(0, 1)], dim=1)
        decoded = self.blocks(torch.cat([context, queries], dim=1), visible[:, None, None])
        return self.project(decoded[:, context.shape[1] :]).unflatten(0, (-1, count))

    def reset_parameters(self) -> None:
        """Initializes the weights as in the authors' code."""
        initialize_by_depth(self, self.blocks.layers, BRANCH_ENDS, self.std)
        nn.init.trunc_normal_(self.mask_token, std=self.std)
