"""iGPT: Generative Pretraining from Pixels. Chen, Radford, Child, Wu, Jun, Luan, Sutskever, 2020.

ICML 2020 (PMLR 119); details that the paper leaves open are those of the authors' code (openai/image-gpt).

Deviations from the paper:
- The model is transformers' ImageGPT: linear layers have biases, which the authors' model does not have.
- The start token is in no other pixel's context: the first pixel is predicted from it, every other one only from the pixels before
  it. So the sequence that the image processor makes for the published model is the one that it was trained on. The start token has
  the last position, that of the last pixel, from which nothing is predicted. The position embeddings of released weights, which were
  trained after a start token, are moved to this order.
- Only the autoregressive objective; the paper's BERT objective needs attention in both directions.
- Crops: the area is drawn from a range; the authors resize the short side to 256 to 384 px and cut 224 out.
- Color clusters are fitted to up to 200,000 pixels of the training data; the authors' to ImageNet's.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ImageGPTForCausalImageModeling, ImageGPTModel, PreTrainedModel

from ..encoders.pixel_sequence import color_tokens
from ..errors import RecipeError
from ..view import View
from .base import Method, MethodConfig, MethodOutput

_PIXELS = 200_000  # number of pixels that the clusters are fitted to, at most


@strict
class IGPTConfig(MethodConfig):
    """Configuration of iGPT.

    Args:
        num_clusters: Number of color clusters K; fewer if the data has fewer colors.
        feature_layer: Block whose normalized input is the feature, averaged over the pixels: from 1 to one less than the
            blocks; None takes the middle one. The later blocks are not published.
        clusters: (K, 3) colors in [-1, 1]; measured before the training, or those of pretrained weights.
        image_mean: Mean of each color that images are normalized by; filled in by the training.
        image_std: Standard deviation of each color; filled in by the training.
    """

    model_type = "hfcontrast_igpt"
    default_backbone = "imagegpt"

    num_clusters: int = 512
    feature_layer: int | None = None
    clusters: list[list[float]] | None = None
    image_mean: list | None = None
    image_std: list | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        backbone = self.backbone_config
        if backbone.model_type == "imagegpt":
            if getattr(backbone, "clusters", None) is not None:  # pretrained weights come with their clusters
                self.clusters = backbone.clusters
            elif self.clusters is not None:
                backbone.clusters, backbone.vocab_size = self.clusters, len(self.clusters) + 1

    def validate_clusters(self):
        """Two colors or more."""
        if self.num_clusters < 2:
            raise ValueError(f"num_clusters is {self.num_clusters}, expected 2 or more")


class IGPT(Method):
    """iGPT (Chen et al., 2020): predicts each pixel from the previous ones, row by row, like a language model.

    Images are small and quantized to K colors. The encoder is an ImageGPTModel of transformers; its first blocks are published, up
    to the one with the best linear-probe accuracy, about the middle, as an ImageGPTModel with that many blocks, whose last
    normalization is the next block's first. The kNN accuracy of these features is low.
    """

    config_class = IGPTConfig
    views = (View(size=32, scale=(0.34, 0.77), ratio=(1.0, 1.0), horizontal_flip=0.0, jitter=0.0),)
    min_images = 1
    data_statistics = ("clusters",)
    needs_colors = True

    def __init__(self, config: IGPTConfig):
        if config.backbone_config.model_type != "imagegpt":
            raise RecipeError(
                f"iGPT predicts pixels with an ImageGPT, and the backbone is '{config.backbone_config.model_type}': use "
                "model_type: imagegpt"
            )
        if config.clusters is None or config.image_mean is None or config.image_std is None:
            raise ValueError(
                "clusters, image_mean and image_std are None: they are filled in by a training; set them yourself otherwise"
            )
        super().__init__(config)
        initialize_gpt(self.encoder)
        blocks = config.backbone_config.n_layer
        self.feature_layer = blocks // 2 if config.feature_layer is None else config.feature_layer
        if not 1 <= self.feature_layer < blocks:
            raise ValueError(
                f"feature_layer is {self.feature_layer}, expected 1 to {blocks - 1} with an encoder of {blocks} blocks"
            )
        self.head = PixelHead(self.feature_size, len(config.clusters))
        self.post_init()

    @classmethod
    def compute_data_statistics(cls, images: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """The color clusters: k-means of the pixels (section 3.1: K = 512 of RGB values)."""
        pixels = images.permute(0, 2, 3, 1).reshape(-1, 3)
        pixels = pixels[:: max(len(pixels) // _PIXELS, 1)] * 2 - 1
        count = int(options.get("num_clusters") or cls.config_class.num_clusters)
        different = pixels.unique(dim=0)
        if len(different) <= count:
            return {"clusters": different.tolist()}
        fitted = MiniBatchKMeans(count, batch_size=4096, max_iter=20, n_init=1, random_state=0).fit(pixels.numpy())
        return {"clusters": torch.from_numpy(fitted.cluster_centers_).float().tolist()}

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to ``error`` (B, V): the mean negative log-likelihood of an image's pixels, in nats."""
        tokens = self.tokens(pixel_values.flatten(0, 1))
        logits = self.logits(tokens).float()
        error = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none").mean(dim=1)
        return {"error": error.unflatten(0, pixel_values.shape[:2])}

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T) to the logits of every pixel's color (N, T, K), from the start token for the first and from the previous ones for others."""
        start = tokens.new_full((len(tokens), 1), len(self.config.clusters))
        place = tokens.new_full((1, 1), self.encoder.config.n_positions - 1)
        first = self.encoder(start, position_ids=place, use_cache=False).last_hidden_state
        others = self.encoder(tokens[:, :-1], use_cache=False).last_hidden_state
        return self.head(torch.cat([first, others], dim=1))

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The mean over images (eq. 1)."""
        return MethodOutput(loss=embeddings["error"].mean())

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """The colors of normalized images (N, 3, H, W), row by row: (N, H * W)."""
        values = pixel_values.float()
        mean, std = (values.new_tensor(v).view(3, 1, 1) for v in (self.config.image_mean, self.config.image_std))
        return color_tokens(self.encoder, (values * std + mean) * 2 - 1)

    def export_encoder(self) -> PreTrainedModel:
        """The blocks before the feature layer, sharing their parameters."""
        config = type(self.encoder.config).from_dict({**self.encoder.config.to_dict(), "n_layer": self.feature_layer})
        with torch.device("meta"):
            encoder = ImageGPTModel(config)
        encoder.wte, encoder.wpe, encoder.drop = self.encoder.wte, self.encoder.wpe, self.encoder.drop
        encoder.h = nn.ModuleList(self.encoder.h[: self.feature_layer])
        encoder.ln_f = self.encoder.h[self.feature_layer].ln_1
        return encoder.train(self.encoder.training)

    def generator(self) -> ImageGPTForCausalImageModeling:
        """The whole model as a transformers model with shared parameters, which samples the rest of an image from its first pixels."""
        with torch.device("meta"):
            model = ImageGPTForCausalImageModeling(self.encoder.config)
        model.transformer, model.lm_head = self.encoder, self.head.linear
        return model

    def visualize(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """The upper half, three completions that are sampled from the model, and the image in its colors."""
        image = pixel_values[:, 0]
        tokens = self.tokens(image)
        given = tokens.shape[1] // 2
        sampled = self.generator().generate(
            tokens[:, :given],
            do_sample=True,
            top_k=0,
            max_length=tokens.shape[1],
            num_return_sequences=3,
            pad_token_id=len(self.config.clusters),
        )
        half = tokens.masked_fill(torch.arange(tokens.shape[1], device=tokens.device) >= given, -1)
        size = image.shape[-2:]
        return {
            "given": self.colors(half, size),
            "sampled": self.colors(sampled, size).unflatten(0, (-1, 3)),
            "original": self.colors(tokens, size),
        }

    def colors(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (N, H * W) as normalized images; those below 0 are gray."""
        clusters = torch.tensor(self.config.clusters, device=tokens.device)
        pixels = (clusters[tokens.clamp(0, len(clusters) - 1)] + 1) / 2
        mean, std = (torch.tensor(v, device=tokens.device) for v in (self.config.image_mean, self.config.image_std))
        values = ((pixels - mean) / std).masked_fill((tokens < 0).unsqueeze(-1), 0.0)
        return values.transpose(1, 2).unflatten(2, tuple(size))


@torch.no_grad()
def initialize_gpt(encoder: ImageGPTModel) -> None:
    """Initializes the encoder, of width D and with L blocks, as in the authors' code.

    Tokens N(0, 0.02^2), positions N(0, 0.01^2); queries, keys and values N(0, 1 / D), the attention's output N(0, 1 / (D L)), both
    layers of an MLP N(0, 0.02^2). Biases, which the authors' model does not have, are 0.
    """
    width, layers = encoder.config.hidden_size, len(encoder.h)
    nn.init.normal_(encoder.wte.weight, std=0.02)
    nn.init.normal_(encoder.wpe.weight, std=0.01)
    for block in encoder.h:
        nn.init.normal_(block.attn.c_attn.weight, std=width**-0.5)
        nn.init.normal_(block.attn.c_proj.weight, std=(width * layers) ** -0.5)
        nn.init.normal_(block.mlp.c_fc.weight, std=0.02)
        nn.init.normal_(block.mlp.c_proj.weight, std=0.02)


class PixelHead(nn.Module):
    """Logits of the colors: one linear layer without bias, which starts at 0 as in the authors' code.

    Args:
        width: Width of the encoder's tokens.
        colors: Number of clusters K.
    """

    def __init__(self, width: int, colors: int):
        super().__init__()
        self.linear = nn.Linear(width, colors, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(tokens)

    def reset_parameters(self) -> None:
        """Initial weights."""
        nn.init.zeros_(self.linear.weight)
