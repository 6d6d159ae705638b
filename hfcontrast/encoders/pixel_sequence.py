"""ImageGPT's sequences: the tokens of an image, and their positions when features are read.

A model of pixels predicts each of them from those before it. The released ones begin with a start token, so pixel t stands at
position t + 1 and the last one is left out. But their image processor makes the pixels alone, which a plain model then takes
from position 0 on: every pixel meets its neighbor's position. Encoders that are trained here see what the processor makes, and
their configuration says so with ``start_token: false``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError

EXPRESSION = "outputs.last_hidden_state[:, :-1].mean(1)"  # the features of one that is trained here


def begins_with_start(encoder: PreTrainedModel) -> bool:
    """Whether an ImageGPT was trained on sequences that begin with a start token, the last of its vocabulary."""
    return getattr(encoder.config, "start_token", True)


def pixel_features(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """The mean of the outputs from which an ImageGPT was trained to predict pixels.

    Args:
        encoder: An ImageGPT whose configuration has ``clusters``, (K, 3) in [-1, 1].
        pixel_values: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, D).
    """
    tokens = color_tokens(encoder, pixel_values)
    if begins_with_start(encoder):
        start = tokens.new_full((len(tokens), 1), encoder.config.vocab_size - 1)
        return encoder(torch.cat([start, tokens[:, :-1]], dim=1), use_cache=False).last_hidden_state.mean(dim=1)
    return encoder(tokens, use_cache=False).last_hidden_state[:, :-1].mean(dim=1)


def color_tokens(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """The nearest color cluster of every pixel, as ImageGPT's image processor has it.

    Args:
        encoder: An ImageGPT whose configuration has ``clusters``, (K, 3) in [-1, 1].
        pixel_values: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, H * W) int64, row by row.

    Raises:
        ValueError: The configuration has no clusters.
    """
    if (clusters := getattr(encoder.config, "clusters", None)) is None:
        raise ValueError("this ImageGPT's configuration has no `clusters`, the colors that its tokens stand for")
    colors = torch.as_tensor(clusters, dtype=torch.float32, device=pixel_values.device)
    pixels = pixel_values.float().permute(0, 2, 3, 1).reshape(-1, 3)
    with torch.autocast(pixel_values.device.type, enabled=False):
        distances = (pixels**2).sum(dim=1)[:, None] - 2 * pixels @ colors.T + (colors**2).sum(dim=1)
    return distances.argmin(dim=1).view(len(pixel_values), -1)


def a_token_each_pixel(fields: dict[str, Any], image_size: int) -> None:
    """Fills in how many tokens the sequence has, of images with a side of so many pixels."""
    fields.setdefault("n_positions", image_size**2)


def train_without_start(encoder: PreTrainedModel, config: PreTrainedConfig) -> None:
    """Notes in both configurations that sequences have no start token, as those of an encoder that is trained here."""
    config.start_token = encoder.config.start_token = False


def take_colors(config: PreTrainedConfig, read_processor: Callable[[], Any]) -> None:
    """Fills in the colors that the tokens of released weights stand for, which only their image processor knows.

    Args:
        config: The configuration; one that has ``clusters`` stays as it is.
        read_processor: Reads the image processor.

    Raises:
        ArgumentError: The processor does not have them either.
    """
    if getattr(config, "clusters", None) is not None:
        return
    if getattr(processor := read_processor(), "clusters", None) is None:
        raise ArgumentError("it has no image processor with `clusters`, the colors that its tokens stand for")
    config.clusters = torch.as_tensor(processor.clusters).tolist()


def move_start_to_end(source: PreTrainedModel) -> None:
    """Moves the positions of the pixels to the front in weights that were trained with a start token, and its own to the end."""
    if begins_with_start(source):
        positions = source.wpe.weight.data
        positions.copy_(positions.roll(-1, dims=0))


def token_processor_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """Settings of the image processor that makes the tokens of its colors."""
    return {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "clusters": config.clusters}
