"""Facts of architectures: a new one needs one entry, and all rooms read the facts from it."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from hfcontrast.encoders import Family, build_encoder, encode, families, feature_size, register_family
from hfcontrast.encoders.families import family_of, family_of_type, model_types
from hfcontrast.encoders.features import feature_expression, patch_size, tokens_before_patches
from hfcontrast.encoders.layers import layer_distances, named_kinds
from hfcontrast.encoders.lora import find_targets


class InventedConfig(PreTrainedConfig):
    model_type = "invented"

    hidden_size: int = 8
    patch_size: int = 4


class InventedModel(PreTrainedModel):
    """Two tokens before the patches, and modules with names that nobody else uses."""

    config_class = InventedConfig

    def __init__(self, config):
        super().__init__(config)
        self.stem = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)
        self.two_tokens = nn.Parameter(torch.randn(1, 2, config.hidden_size))
        self.cell_a0 = nn.Linear(config.hidden_size, config.hidden_size)
        self.cell_a1 = nn.Linear(config.hidden_size, config.hidden_size)
        self.last = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def forward(self, pixel_values):
        patches = self.stem(pixel_values).flatten(2).mT
        tokens = torch.cat([self.two_tokens.expand(len(patches), -1, -1), patches], dim=1)
        return BaseModelOutput(last_hidden_state=self.last(self.cell_a1(self.cell_a0(tokens).relu())))


@pytest.fixture
def invented(monkeypatch):
    """A model whose architecture is known by one entry, for the time of a test."""
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))
    register_family(
        Family(
            ("invented",),
            class_tokens=2,
            pools_patches=True,
            layers=r"(?P<outer>cell)_a(?P<stage>\d+)\.",
            kinds={"class_token": "two_tokens"},
            attention=r"cell_a\d$",
        )
    )
    return InventedModel(InventedConfig()).eval()


def test_an_entry_is_all_that_a_new_architecture_needs(invented):
    pixels = torch.randn(2, 3, 8, 8)
    tokens = invented(pixels).last_hidden_state
    assert torch.equal(encode(invented, pixels), tokens[:, 2:].mean(dim=1))
    assert (tokens_before_patches(invented), patch_size(invented), feature_size(invented)) == (2, 4, 8)
    assert feature_expression(invented) == "outputs.last_hidden_state[:, 2:].mean(1)"
    found = layer_distances(invented)
    assert found["stem.weight"] == found["two_tokens"] == 3 and found["last.weight"] == 0
    assert (found["cell_a0.weight"], found["cell_a1.weight"]) == (2, 1)
    assert named_kinds(invented) == {"two_tokens": "class_token"}
    assert find_targets(invented, None, [""]) == ["cell_a0", "cell_a1"]


def test_an_architecture_within_another_is_found_too(invented):
    outer = nn.ModuleDict({"encoder": invented, "head": nn.Linear(8, 2)})
    found = layer_distances(outer)
    assert found["encoder.cell_a0.weight"] == 2 and found["head.weight"] == 0
    assert named_kinds(outer) == {"encoder.two_tokens": "class_token"}


def test_without_an_entry_it_is_as_most_are():
    model = InventedModel(InventedConfig())
    assert family_of(model) is family_of_type("invented") is family_of_type(None)
    assert tokens_before_patches(model) == 0 and named_kinds(model) == {}  # no parameter is named as a class token is


def test_facts_that_are_asked_for():
    assert model_types(as_vit=True) == ("vit", "vit_mae", "ijepa")
    assert {"siglip", "siglip2", "siglip_text_model", "siglip2_text_model"} == set(model_types(pads_texts=True))
    assert family_of_type("timm_wrapper").processor_in_config and family_of_type("xmod").positions_after_padding
    config = CONFIG_MAPPING["vit_mae"](
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4
    )
    assert config.mask_ratio == 0.75 and build_encoder(config).config.mask_ratio == 0.0


@pytest.mark.parametrize("model_type", [name for entry in families._ENTRIES for name in entry.model_types])
def test_entries_are_of_architectures_that_there_are(model_type):
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text()
    if f"transformers=={transformers.__version__}\n" in lock:  # other versions lack some, or have other names
        assert model_type in CONFIG_MAPPING
    assert sum(model_type in entry.model_types for entry in families._ENTRIES) == 1
