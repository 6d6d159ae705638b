"""Small methods and batches for tests."""

import copy
from typing import Any

import torch
from torch import Tensor

from ..methods.base import Method
from ..methods.contract.arguments import needed_columns, needs_captions
from ..methods.contract.calling import data_statistics_of

TINY_BACKBONE = {
    "model_type": "dinov2",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
TINY_TOWERS: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 40,
        "max_position_embeddings": 12,
        "bos_token_id": 38,
        "eos_token_id": 39,
        "pad_token_id": 39,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
}
TINY_CONVOLUTIONAL_TOWERS = {
    "model_type": "vision-text-dual-encoder",
    "projection_dim": 16,
    "text_config": {"model_type": "clip_text_model", **TINY_TOWERS["text_config"]},
    "vision_config": {
        "model_type": "timm_wrapper",
        "architecture": "resnet10t",
        "model_args": {"stem_width": 8, "channels": [8, 8, 8, 16]},
        "num_labels": 0,
        "hidden_size": 16,
    },
}
_OF_THE_DATA = {"num_images": 64, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def build(method_class: type[Method], backbone: dict[str, Any] | None = None, **options: Any) -> Method:
    """A small method in training mode, always with the same weights; facts about the data are made up."""
    torch.manual_seed(0)
    config_class = method_class.config_class
    known = {name: value for name, value in _OF_THE_DATA.items() if name in config_class.__dataclass_fields__}
    small = TINY_TOWERS if needs_captions(method_class) else TINY_BACKBONE
    options = {**known, **options}
    if missing := [name for name in method_class.data_statistics if options.get(name) is None]:
        images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        options |= data_statistics_of(method_class, images, options, missing)
    config = config_class(backbone_config=copy.deepcopy(backbone or small), **options)
    return method_class(config).train()


def random_batch(
    method_class: type[Method], images: int, size: int = 32, columns: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """A batch with all entries that a method can take: its views, labels, indices, tokens of captions, columns of the data.

    Args:
        method_class: The method.
        images: Images in the batch.
        size: Side of the largest views, in pixels; the others are half as large.
        columns: (images, ...) values of further columns of the data, by name. Default: a number in [0, 1) for each image.
    """
    generator = torch.Generator().manual_seed(1)
    largest = max(view.size for view in method_class.views)
    counts: dict[str, list[int]] = {}
    for view in method_class.views:
        counts.setdefault(view.key, []).append(view.count)
    sizes = {view.key: size if view.size == largest else size // 2 for view in method_class.views}
    batch = {
        key: torch.randn(images, sum(views), 3, sizes[key], sizes[key], generator=generator)
        for key, views in counts.items()
    }
    if needs_captions(method_class):
        batch |= _random_captions(images, generator)
    for name in needed_columns(method_class):
        given = (columns or {}).get(name)
        batch[name] = torch.rand(images, generator=generator) if given is None else given
    return {**batch, "labels": torch.arange(images) % (images // 2), "index": torch.arange(images)}


def _random_captions(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Captions of 4 to 12 tokens, the start, the end and padding as ``TINY_TOWERS`` has them."""
    start, end = (TINY_TOWERS["text_config"][name] for name in ("bos_token_id", "eos_token_id"))
    lengths = torch.randint(4, 13, (count, 1), generator=generator)
    places = torch.arange(12).expand(count, -1)
    tokens = torch.randint(0, start, (count, 12), generator=generator)
    tokens = tokens.masked_fill(places == 0, start).masked_fill(places >= lengths - 1, end)
    return {"input_ids": tokens, "attention_mask": (places < lengths).long()}
