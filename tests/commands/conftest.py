"""A model that the tests of the commands share."""

import pytest
import torch
from transformers import BitImageProcessor, ViTConfig, ViTModel


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory) -> str:
    """A vision transformer whose pooler nobody has trained, and that is not in the weights."""
    folder = tmp_path_factory.mktemp("models") / "vit"
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8), add_pooling_layer=False).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return str(folder)
