"""Colorization: Colorful Image Colorization. Zhang, Isola, Efros, 2016.

arXiv:1603.08511; details that the paper leaves open are those of the authors' code (richzhang/colorization, the v2 model).

Deviations from the paper:
- The color bins are the 261 that contain an sRGB color; the authors' list has 313.
- Any encoder with a feature map or tokens works; a small decoder takes its last features, at 1/32 of the image's side for
  a ResNet; the authors' dilated VGG keeps 1/8.
- The target colors are means of 4 x 4 pixels; the authors take every fourth pixel. They encode each color with 10 bins, the paper
  with 5; and they leave out gray images, which the paper does not mention.
- The color frequencies are measured on a few hundred images of the data; the authors' on all of ImageNet.
- The loss is the mean over the positions of an image, regardless of their weights; the paper's is the sum.
- The initialization is that of the architecture, not k-means of the data.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.color_views import as_color_views, convert_colors, lab_to_rgb
from ...encoders.feature_map import feature_map
from ...encoders.features import patch_size, tokens_before_patches
from ...losses import annealed_mean, color_cross_entropy, rebalancing_weights, soft_encode
from ...view import View
from ..base import Method, MethodConfig, MethodOutput
from .color_bins import color_bins

_IMAGES = 32  # images that are processed at a time


@strict
class ColorizationConfig(MethodConfig):
    """Configuration of colorization.

    Args:
        output_stride: Ratio of the side of the image to that of the predicted color map.
        decoder_dim: Channels of the decoder.
        neighbors: Number of nearest bins in the soft encoding of a target color.
        encoding_sigma: Standard deviation of the Gaussian of the soft encoding, above 0; a bin is 10 wide.
        smoothing_sigma: Standard deviation of the Gaussian that smooths the color frequencies, above 0.
        uniform_share: lambda, the share of the uniform distribution in the class rebalancing (eq. 4), in [0, 1].
        temperature: Temperature T of the annealed mean that turns a prediction into an image (eq. 5), above 0.
        color_frequencies: Frequency of each bin; measured before the training.
        image_mean: Mean of each color that images are normalized by; filled in by the training.
        image_std: Standard deviation of each color that they are normalized by; filled in by the training.
    """

    model_type = "hfcontrast_colorization"
    renamed_settings = {"neighbours": "neighbors"}

    output_stride: int = 4
    decoder_dim: int = 256
    neighbors: int = 5
    encoding_sigma: float | int = 5.0
    smoothing_sigma: float | int = 5.0
    uniform_share: float | int = 0.5
    temperature: float | int = 0.38
    color_frequencies: list | None = None
    image_mean: list | None = None
    image_std: list | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.backbone_config = as_color_views(self.backbone_config, "lab", [[0]], self.image_mean, self.image_std)

    def validate_encoder(self):
        """The input of the encoder is only the lightness."""
        views = self.backbone_config
        if (views.color_space, views.channel_groups) != ("lab", [[0]]):
            raise ValueError(
                f"the encoder takes {views.channel_groups} of {views.color_space}, which include the target colors: expected "
                "channel_groups [[0]] of lab, or the configuration of an ordinary encoder"
            )

    def validate_settings(self):
        """Ranges."""
        for name in ("encoding_sigma", "smoothing_sigma", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")
        for name in ("output_stride", "decoder_dim", "neighbors"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 <= self.uniform_share <= 1:
            raise ValueError(f"uniform_share is {self.uniform_share}, expected a number between 0 and 1")


class Colorization(Method):
    """Colorization (Zhang et al., 2016, arXiv:1603.08511): predicts the color distribution at each position from the lightness.

    The colors are classes, and rare ones have larger weights. The published encoder takes ordinary RGB images, of which it uses
    only the lightness.
    """

    config_class = ColorizationConfig
    # 176 of 256 px, mirrored (the authors' v2 model)
    views = (View(name="crop", size=176, scale=(0.47, 0.47), ratio=(1.0, 1.0), interpolation="bilinear", jitter=0.0),)
    min_images = 1
    data_statistics = ("color_frequencies",)
    needs_colors = True

    def __init__(self, config: ColorizationConfig):
        super().__init__(config)
        bins = color_bins()
        names = ("image_mean", "image_std", "color_frequencies")
        if missing := [name for name in names if getattr(config, name) is None]:
            raise ValueError(
                f"colorization needs {', '.join(missing)}: they are filled in by a training; set them yourself otherwise"
            )
        if len(config.color_frequencies) != len(bins) or sum(config.color_frequencies) <= 0:
            raise ValueError(
                f"color_frequencies has {len(config.color_frequencies)} numbers, expected {len(bins)} that are not all 0, one for "
                "each color bin; leave it out to have them measured"
            )
        (network,) = self.encoder.encoders
        if patch_size(network) is not None and tokens_before_patches(network):  # no loss trains the class token
            self.encoder.config.feature_pooling = "mean"
            self.encoder.config.num_register_tokens = tokens_before_patches(network) - 1
        width = config.decoder_dim
        self.before = nn.Conv2d(self.feature_size, width, 3, padding=1)
        self.after = nn.Conv2d(width, width, 3, padding=1)
        self.classifier = nn.Conv2d(width, len(bins), 1)
        frequencies = torch.tensor(config.color_frequencies, dtype=torch.float32, device="cpu")
        self.register_buffer("bins", bins)
        self.register_buffer(
            "weights", rebalancing_weights(frequencies, bins, config.smoothing_sigma, config.uniform_share)
        )
        self.post_init()

    @classmethod
    def compute_data_statistics(cls, images: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """The frequencies of the color bins, which sum to 1."""
        bins, stride = color_bins(), options.get("output_stride") or cls.config_class.output_stride
        counts = torch.zeros(len(bins), dtype=torch.long)
        for batch in images.split(_IMAGES):
            numbers, _ = soft_encode(shrunken_colors(batch, stride).movedim(1, -1).reshape(-1, 2), bins, 1)
            counts += numbers.flatten().bincount(minlength=len(bins))
        return {"color_frequencies": (counts / counts.sum()).tolist()}

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, 3, S, S) to ``loss``, the mean over the positions of each image, and ``correct``, (B, V) each."""
        crops, config = pixel_values.flatten(0, 1), self.config
        targets = shrunken_colors(self._rgb(crops), config.output_stride)
        logits = self.predict(crops).movedim(1, -1).flatten(0, 2)
        numbers, shares = soft_encode(
            targets.movedim(1, -1).flatten(0, 2), self.bins, config.neighbors, config.encoding_sigma
        )
        losses = color_cross_entropy(logits, numbers, shares, self.weights)
        correct = (logits.argmax(dim=1) == numbers[:, 0]).float()
        means = torch.stack([losses, correct]).view(2, *pixel_values.shape[:2], -1).mean(dim=-1)
        return {"loss": means[0], "correct": means[1].detach()}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The mean over images, which all have the same number of positions."""
        return MethodOutput(loss=embeddings["loss"].mean(), metrics={"accuracy": embeddings["correct"].detach().mean()})

    def predict(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) to the logits of the colors, (N, Q, S / stride, S / stride)."""
        size = (crops.shape[-2], crops.shape[-1])
        hidden = feature_map(self.encoder.encoders[0], self.encoder(crops).last_hidden_state, size)
        hidden = F.relu(self.before(hidden))
        smaller = tuple(side // self.config.output_stride for side in size)
        hidden = F.interpolate(hidden, smaller, mode="bilinear")
        return self.classifier(F.relu(self.after(hidden)))

    def visualize(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """The lightness, the image in the predicted colors, and the original."""
        crops = pixel_values[:, 0]
        with torch.autocast(crops.device.type, enabled=False):
            lab = convert_colors(self._rgb(crops), "lab")
        colors = annealed_mean(self.predict(crops).movedim(1, -1), self.bins, self.config.temperature).movedim(-1, 1)
        colors = F.interpolate(colors, crops.shape[-2:], mode="bilinear")
        gray = lab * lab.new_tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
        colorful = torch.cat([lab[:, :1], colors], dim=1)
        return {"lightness": self._normalized(gray), "colorized": self._normalized(colorful), "original": crops}

    def _rgb(self, crops: Tensor) -> Tensor:
        """Crops before normalization, in float32."""
        crops = crops.float()
        mean, std = (crops.new_tensor(v).view(3, 1, 1) for v in (self.config.image_mean, self.config.image_std))
        return (crops * std + mean).clamp(0, 1)

    def _normalized(self, lab: Tensor) -> Tensor:
        mean, std = (lab.new_tensor(v).view(3, 1, 1) for v in (self.config.image_mean, self.config.image_std))
        with torch.autocast(lab.device.type, enabled=False):
            return (lab_to_rgb(lab) - mean) / std


def shrunken_colors(rgb: Tensor, stride: int) -> Tensor:
    """a and b of images (N, 3, H, W) in [0, 1], averaged over squares of ``stride`` pixels: (N, 2, H / stride, W / stride)."""
    with torch.autocast(rgb.device.type, enabled=False):
        colors = convert_colors(rgb, "lab")[:, 1:]
        return F.adaptive_avg_pool2d(colors, (rgb.shape[-2] // stride, rgb.shape[-1] // stride))
