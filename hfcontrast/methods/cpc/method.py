"""CPC: Representation Learning with Contrastive Predictive Coding. van den Oord, Li, Vinyals, 2018.

arXiv:1807.03748, for images and for one-dimensional signals. Details that it leaves open for images are taken from the pseudocode of
Data-Efficient Image Recognition with Contrastive Predictive Coding, Hénaff et al., 2020 (CPC v2), arXiv:1905.09272.

Deviations from the papers:
- Of v2's augmentations of each patch there are color dropping and flips, and instead of the many others (shearing, rotation,
  elastic deformation, colors) contrast and brightness. All are off by default, as in v1.
- The encoder is the recipe's, with its own normalization and pooling. The papers avoid batch normalization, whose
  statistics leak information between patches: v1 has none, v2 layer normalization. Use an encoder without it, such as convnext.
- v1 takes the outputs of a ResNet's third stage; here the last features of the encoder are used.
- The recurrent context of v1 is a convolutional row GRU; here a plain GRU runs down each column.
- The loss is the mean over steps and directions, not their sum.
- Negatives are all other patches of the global batch; in the papers, of a process.

hfcontrast's data pipeline reads images; for signals, write your own loop:

>>> import torch
>>> from hfcontrast import Progress
>>> from hfcontrast.methods.cpc import CPC, CPCConfig
>>> from hfcontrast.encoders import SignalEncoderConfig
>>> from hfcontrast.training.step import OptimizerStep
>>> method = CPC(CPCConfig(backbone_config=SignalEncoderConfig(num_channels=1)))
>>> optimizer = torch.optim.Adam(method.parameters(), lr=2e-4)
>>> train_step = OptimizerStep(method, optimizer)
>>> batches = torch.randn(2, 4, 1, 3200)  # yours: any number of signals (B, C, T), of about zero mean and unit variance
>>> for step, signals in enumerate(batches):
...     result = train_step([{"input_values": signals}], Progress(step, len(batches)))
>>> encoder = method.export_encoder()  # encoder.save_pretrained(folder) writes it with its code
>>> encoder(signals).last_hidden_state.shape  # a context for every 160 samples
torch.Size([4, 20, 256])
"""

import math
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ...encoders import SignalEncoderModel, encode
from ...encoders.features import check_image_size
from ...losses import predictive_info_nce
from ...nn import gather, rank
from ...nn.patches.cut import cut_patches
from ...view import View
from ..base import Method, MethodConfig, MethodOutput
from .context import FuturePredictor, GRUContext, MaskedConvContext
from .patches import DRAWS, distort_patches, turn_grid


@strict
class CPCConfig(MethodConfig):
    """Configuration of CPC.

    Args:
        patch_size: Side of the patches that an image is cut into, in pixels.
        stride: Distance from one patch to the next, in pixels; below patch_size they overlap.
        patch_jitter: Each patch is cropped to a random square smaller by this many pixels, and padded to its size again.
        patch_contrast: Each patch's difference from its mean is multiplied by a factor from [1 - contrast, 1 + contrast].
        patch_brightness: Each patch gets a number from [-brightness, brightness] added, in standard deviations of the
            normalized images.
        patch_color_drop: Probability that a patch keeps only one of its three channels (v2).
        patch_flip: Probability that a patch is mirrored left to right (v2).
        context: Context network: "conv" for masked convolutions, "gru" for a recurrent network down each column. The encoder of a
            signal has its own context network.
        context_dim: Width of the context network's hidden layers.
        context_layers: Layers of the context network.
        directions: Directions of prediction, of "down", "up", "right" and "left", each with its own context network and
            predictors; v1 has "down", v2 all four. Signals are predicted forward only.
        prediction_steps: Steps ahead that are predicted, rows or features of a signal; null: 5 for images, 12 for signals.
        skipped_steps: Nearest steps that are not predicted, because the patches overlap; v2's pseudocode
            skips 2 and predicts the third.
        target_dim: Width of the projected targets; null: 64 for images, the features themselves for signals.
        prediction_scale: Factor on the predictions, which keeps them small at the start; null: 0.1 for images, 1 for signals.
    """

    model_type = "hfcontrast_cpc"

    patch_size: int = 64
    stride: int = 32
    patch_jitter: int = 4
    patch_contrast: float | int = 0.0
    patch_brightness: float | int = 0.0
    patch_color_drop: float | int = 0.0
    patch_flip: float | int = 0.0
    context: Literal["conv", "gru"] = "conv"
    context_dim: int = 256
    context_layers: int = 5
    directions: list[Literal["down", "up", "right", "left"]] | tuple[str, ...] = ("down",)
    prediction_steps: int | None = None
    skipped_steps: int = 0
    target_dim: int | None = None
    prediction_scale: float | int | None = None

    def validate_patches(self):
        """Patches and strides are positive, and the jitter is smaller than a patch."""
        for name in ("patch_size", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 pixel or more")
        if not 0 <= self.patch_jitter < self.patch_size:
            raise ValueError(f"patch_jitter is {self.patch_jitter}, expected 0 or more pixels, fewer than patch_size")

    def validate_distortions(self):
        """Strengths are not negative, and probabilities are between 0 and 1."""
        for name in ("patch_contrast", "patch_brightness", "patch_color_drop", "patch_flip"):
            strength = name in ("patch_contrast", "patch_brightness")
            if getattr(self, name) < 0 or not (strength or getattr(self, name) <= 1):
                expected = "0 or more" if strength else "a probability between 0 and 1"
                raise ValueError(f"{name} is {getattr(self, name)}, expected {expected}")

    def validate_directions(self):
        """One direction or more."""
        if not self.directions or len(set(self.directions)) < len(self.directions):
            raise ValueError(f"directions is {list(self.directions)}, expected different ones of down, up, right, left")

    def validate_prediction_scale(self):
        """The scale is positive."""
        if self.prediction_scale is not None and self.prediction_scale <= 0:
            raise ValueError(f"prediction_scale is {self.prediction_scale}, expected a number above 0")

    def validate_steps(self):
        """Something is predicted."""
        if self.skipped_steps < 0 or (
            self.prediction_steps is not None and self.prediction_steps <= self.skipped_steps
        ):
            raise ValueError(
                f"prediction_steps is {self.prediction_steps} and skipped_steps {self.skipped_steps}: expected more of the "
                "first, and 0 or more of the second"
            )


class CPC(Method):
    """CPC (van den Oord et al., 2018, arXiv:1807.03748): predicts lower patches from upper ones, or a signal's future from its past.

    Patches are encoded independently; a context network summarizes the patches above, and linear predictions from it identify the
    patches several rows ahead among all patches of the batch. The patch encoder is published; for a whole image it returns its
    pooled feature.
    """

    config_class = CPCConfig
    # 256 px out of 300, gray (section 3.2)
    views = (View(name="crop", size=256, scale=(0.728, 0.728), ratio=(1.0, 1.0), jitter=0.0, grayscale=1.0),)
    min_images = 1
    collapse_advice = "lower optim.lr, raise train.batch_size, or use an encoder without batch normalization"

    def __init__(self, config: CPCConfig):
        super().__init__(config)
        self.of_signals = isinstance(self.encoder, SignalEncoderModel)
        self.main_input_name = self.encoder.main_input_name if self.of_signals else "pixel_values"
        if self.of_signals and list(config.directions) != ["down"]:
            raise ValueError(
                f"directions is {list(config.directions)}: a signal is predicted forward only; leave it out"
            )
        if not self.of_signals and not next(self.encoder.parameters()).is_meta:
            check_image_size(self.encoder, config.patch_size, "method.patch_size", channels=None)
        last = config.prediction_steps or (12 if self.of_signals else 5)
        self.steps = range(config.skipped_steps + 1, last + 1)
        if not self.steps:
            raise ValueError(
                f"skipped_steps is {config.skipped_steps}, and {last} steps are predicted: set prediction_steps"
            )
        self.scale = config.prediction_scale or (1.0 if self.of_signals else 0.1)
        self.predictors = nn.ModuleDict({name: self._build_predictor() for name in config.directions})
        self.post_init()

    def _build_predictor(self) -> FuturePredictor:
        config = self.config
        if self.of_signals:
            width = self.encoder.config.conv_dim[-1]
            return FuturePredictor(width, None, self.encoder.config.hidden_size, config.target_dim, len(self.steps))
        network = {"conv": MaskedConvContext, "gru": GRUContext}[config.context]
        context = network(self.feature_size, config.context_dim, config.context_layers)
        return FuturePredictor(self.feature_size, context, context.width, config.target_dim or 64, len(self.steps))

    def embed(
        self, pixel_values: Tensor | None = None, input_values: Tensor | None = None, index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Images (B, 1, C, H, W) or signals (B, C, T) to features of the patches, (B, rows, columns, D).

        A signal is one column, whose contexts come from the encoder. ``index`` (B,) determines the jitter of the patches.
        """
        if self.of_signals:
            if input_values is None:
                raise ValueError("this CPC encodes signals: give it input_values (B, C, T)")
            outputs = self.encoder(input_values)
            return {
                "features": outputs.extract_features.unsqueeze(2),
                "contexts": outputs.last_hidden_state.unsqueeze(2),
            }
        if pixel_values is None or pixel_values.shape[1] != 1:
            got = "none" if pixel_values is None else pixel_values.shape[1]
            raise ValueError(f"CPC takes one crop of an image, which it cuts into patches; got {got}")
        patches = self._distort(cut_patches(pixel_values.squeeze(1), self.config.patch_size, self.config.stride), index)
        features = encode(self.encoder, patches.flatten(0, 2))
        return {"features": features.unflatten(0, patches.shape[:3])}

    def _distort(self, patches: Tensor, index: Tensor | None) -> Tensor:
        config = self.config
        index = torch.arange(len(patches), device=patches.device) if index is None else index
        count = DRAWS * patches.shape[1] * patches.shape[2]
        return distort_patches(
            patches,
            self.random_uniform(index, count, 0, per="step"),
            config.patch_contrast,
            config.patch_brightness,
            config.patch_color_drop,
            config.patch_flip,
            config.patch_jitter,
        )

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """InfoNCE of every prediction against the patches of the global batch."""
        losses, shown = [], None
        for direction, predictor in self.predictors.items():
            grid = turn_grid(embeddings["features"], direction)
            rows = grid.shape[1]
            if rows <= self.steps[-1]:
                raise ValueError(
                    f"{rows} steps lie in a row of patches or features, too few to predict {self.steps[-1]} steps ahead: lower "
                    "prediction_steps, or take a larger view, a smaller patch_size or stride, or longer signals"
                )
            contexts = embeddings["contexts"] if predictor.context is None else predictor.context(grid)
            targets = predictor.target(grid)
            candidates = gather(targets)
            places = torch.arange(len(candidates) * rows * grid.shape[2], device=grid.device).view(candidates.shape[:3])
            places = places.narrow(0, rank() * len(grid), len(grid))
            for step, predict in zip(self.steps, predictor.predict):
                predictions = (predict(contexts[:, :-step]) * self.scale).flatten(0, 2)
                losses.append(predictive_info_nce(predictions, candidates.flatten(0, 2), places[:, step:].flatten()))
            shown = targets.detach().flatten(1, 2) if shown is None else shown
        loss = torch.stack(losses).mean()
        bound = math.log(candidates.shape[:3].numel()) - loss.detach()
        return MethodOutput(loss=loss, metrics={"mutual_information": bound}, embeddings=shown)
