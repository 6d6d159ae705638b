"""Settings that an architecture or this machine does not support are one sentence."""

import pytest
import torch

from hfcontrast.commands import cli
from hfcontrast.errors import RecipeError, out_of_memory
from hfcontrast.recipe import load_recipe
from hfcontrast.training.build import build_training
from hfcontrast.training.build_method import check_backbone_builds

VIT = "num_hidden_layers: 1, intermediate_size: 16, patch_size: 8"
RESNET = "model_type: resnet, embedding_size: 8, layer_type: basic"


@pytest.mark.parametrize(
    "override, words",
    [
        (f"backbone={{model_type: vit, {VIT}, num_attention_heads: 0}}", "backbone: .* build this 'vit': ZeroDivision"),
        (f"backbone={{model_type: vit, {VIT}, hidden_size: 7}}", "backbone: transformers cannot build this 'vit': "),
        (
            f"backbone={{model_type: vit, {VIT}, hidden_act: nope}}",
            "build this 'vit': hidden_act is 'nope', an activation that transformers does not know; ",
        ),
        (f"backbone={{model_type: vit, {VIT}, hidden_act: relux}}", "does not know; did you mean 'relu'?"),
        (
            "backbone={model_type: convnext, depths: [1, 1, 1], hidden_sizes: [8, 8, 8, 8]}",
            "different numbers of entries: depths has 3, hidden_sizes has 4",
        ),
        (f"backbone={{{RESNET}, depths: [], hidden_sizes: []}}", "build this 'resnet': IndexError: "),
        (
            "backbone={model_type: sam, vision_config: {num_hidden_layers: 1}}",
            "'sam' gives masks, not features of the image",
        ),
        (
            "method.projection_dim=-3",
            "method 'simclr' cannot be built: Trying to create tensor with negative dimension",
        ),
    ],
)
def test_a_model_that_cannot_be_built_is_one_sentence(override, words, recipe_file, tmp_path):
    with pytest.raises(RecipeError, match=words) as error:
        build_training(load_recipe(recipe_file("simclr"), [override, f"train.output={tmp_path / 'run'}"]))
    assert "\n" not in str(error.value)


def test_too_little_memory_is_one_sentence(recipe_file, tmp_path, capsys):
    """2^50 bytes are more than any machine gives."""
    code = cli.main(["train", str(recipe_file("simclr")), f"train.output={tmp_path}", f"method.projection_dim={2**44}"])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: there is not enough memory (") and "train.batch_size" in last
    assert out_of_memory(MemoryError()) and out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not out_of_memory(RuntimeError("shapes differ")) and not out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(
    "backbone, words",
    [
        ({"model_type": "detr"}, "backbone: 'detr' describes the objects that its queries find"),
        ({"model_type": "llava"}, "backbone: 'llava' needs input_ids beside the images"),
        ({"model_type": "bert"}, "backbone: 'bert' takes no images"),
        ({"model_type": "wav2vec2"}, "backbone: 'wav2vec2' takes no images"),
        ({"model_type": "siglip"}, "such as siglip_vision_model, or another method"),
        ({"model_type": "blip"}, "such as clip_vision_model, or another method"),
        ({"model_type": "clip"}, "learns from images alone, and backbone 'clip' has a text tower too"),
        ({"model_type": "vit", "patch_size": 9}, "is 224 px, but encoder 'vit' cuts patches of 9 px"),
    ],
)
def test_what_is_no_encoder_is_refused_before_the_data_is_read(backbone, words, monkeypatch, tmp_path):
    def load_rows(**source):
        raise AssertionError("the data is read")

    monkeypatch.setattr("hfcontrast.training.build.load_rows", load_rows)
    train = {"steps": 1, "device": "cpu", "output": str(tmp_path / "run")}
    recipe = {"method": {"name": "simclr"}, "backbone": backbone, "data": {"path": "builtin/shapes"}, "train": train}
    drawn = torch.get_rng_state()
    with pytest.raises(RecipeError) as error:
        check_backbone_builds(load_recipe(recipe))
    assert torch.equal(torch.get_rng_state(), drawn)
    with pytest.raises(RecipeError) as same:
        build_training(load_recipe(recipe))
    assert words in str(error.value) and str(same.value) == str(error.value)
