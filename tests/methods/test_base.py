"""The base class: declarations are checked, teachers are copies, and what is saved is what is loaded."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel

import hfcontrast  # noqa: F401  registers the methods with AutoModel
from hfcontrast.errors import PluginError
from hfcontrast.methods.base import Method, MethodConfig, MethodOutput, Progress
from hfcontrast.methods.contract.modules import copy_teachers
from hfcontrast.methods.dino import DINO
from hfcontrast.methods.simclr import SimCLR, SimCLRConfig
from hfcontrast.nn import MLPHead
from hfcontrast.testing import TINY_BACKBONE, build, random_batch
from hfcontrast.view import View

SMALL_DINO = {"out_dim": 24, "hidden_dim": 16, "bottleneck_dim": 8}


@strict
class DemoConfig(MethodConfig):
    """Configuration of a method for these tests."""

    model_type = "hfcontrast_demo_of_the_base"


@strict
class UnprefixedConfig(MethodConfig):
    """Its model_type could clash."""

    model_type = "demo"


def embed(self, pixel_values):
    return {"z": self.encode(pixel_values)}


def objective(self, embeddings):
    return MethodOutput(loss=embeddings["z"].square().mean())


GOOD = {"config_class": DemoConfig, "views": (View(),), "embed": embed, "objective": objective}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"config_class": None}, "config_class is None, expected a subclass of hfcontrast.MethodConfig"),
        ({"config_class": MethodConfig}, "expected a subclass of hfcontrast.MethodConfig"),
        ({"config_class": UnprefixedConfig}, "model_type is 'demo', expected a name that starts with 'hfcontrast_'"),
        ({"embed": Method.embed}, "does not define embed()"),
        ({"objective": Method.objective}, "does not define objective()"),
        ({"views": ()}, "expected a tuple with at least one hfcontrast.View"),
        ({"views": [View()]}, "expected a tuple with at least one hfcontrast.View"),
        ({"views": (View(), View(key="other"))}, "views must have different names, but 'view'"),
        ({"views": (View(name="a"), View(name="b", size=96))}, "'pixel_values' has 224 px and 96 px (view 'b')"),
    ],
)
def test_a_wrong_declaration_is_refused_when_the_class_is_made(change, words):
    with pytest.raises(PluginError) as error:
        type("Demo", (Method,), {**GOOD, **change})
    assert words in str(error.value)
    assert f"method {__name__}.Demo" in str(error.value)


def test_a_right_declaration_is_taken_and_inherited():
    demo = type("Demo", (Method,), GOOD)
    child = type("Child", (demo,), {})
    assert child.config_class is DemoConfig
    type("Abstract", (Method,), {"abstract": True})


class WithDropout(Method):
    """A method with every kind of module that a teacher treats in its own way."""

    config_class = DemoConfig
    views = (View(count=2),)
    teachers = {"teacher_encoder": "encoder", "teacher_head": "head"}
    embed, objective = embed, objective

    def __init__(self, config):
        super().__init__(config)
        self.head = nn.Sequential(MLPHead(self.feature_size, 8, 4), nn.Dropout(0.5))
        self.post_init()


def equal(first: nn.Module, second: nn.Module) -> bool:
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_teachers_start_as_copies_without_gradients():
    method = build(WithDropout)
    assert equal(method.teacher_encoder, method.encoder) and equal(method.teacher_head, method.head)
    assert not any(p.requires_grad for p in method.teacher_encoder.parameters())
    assert all(p.requires_grad for p in method.head.parameters()) and method.encoder.layernorm.weight.requires_grad
    shared = set(map(id, method.encoder.parameters())) & set(map(id, method.teacher_encoder.parameters()))
    assert not shared


def test_teachers_normalize_by_the_batch_but_drop_nothing():
    method = build(WithDropout).train()
    norm, dropout = method.teacher_head[0][1], method.teacher_head[1]
    assert norm.training and not dropout.training and method.head[1].training
    method.eval()
    assert not norm.training and not dropout.training
    method.train()
    assert norm.training and not dropout.training


def test_update_and_copy_of_teachers():
    method = build(WithDropout)
    before = method.teacher_head[0][0].weight.clone()
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    method.update_teachers(0.75)
    torch.testing.assert_close(method.teacher_head[0][0].weight, before + 0.25)
    copy_teachers(method)
    assert equal(method.teacher_encoder, method.encoder) and equal(method.teacher_head, method.head)


def test_an_update_without_teachers_is_refused():
    with pytest.raises(PluginError, match="declares no teachers"):
        build(SimCLR).update_teachers(0.9)


def test_a_checkpoint_without_the_teacher_gives_copies(tmp_path):
    method = build(DINO, **SMALL_DINO)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter))
    method.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    kept = {name: value for name, value in weights.items() if not name.startswith("teacher_")}
    assert 0 < len(kept) < len(weights)
    save_file(kept, file, metadata={"format": "pt"})
    loaded = DINO.from_pretrained(tmp_path)
    assert equal(loaded.encoder, method.encoder) and equal(loaded.teacher_encoder, method.encoder)
    assert equal(loaded.teacher_head, method.head) and equal(loaded.teacher_prototypes, method.prototypes)
    assert not any(p.requires_grad for p in loaded.teacher_encoder.parameters())


TIMM_VIT = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 32}}


@pytest.mark.parametrize("backbone", [TINY_BACKBONE, TIMM_VIT], ids=["transformers", "timm"])
def test_automodel_gives_the_method_back(backbone, tmp_path):
    method = build(DINO, backbone, **SMALL_DINO)
    with torch.no_grad():
        next(method.teacher_encoder.parameters()).add_(1)
        method.center.add_(2)
    method.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is DINO and not info["missing_keys"] and not info["unexpected_keys"]
    assert equal(loaded, method)
    assert loaded.config.out_dim == 24 and type(loaded.encoder) is type(method.encoder)


def test_the_folder_of_another_method_is_refused(tmp_path):
    build(SimCLR, projection_dim=8).save_pretrained(tmp_path)
    with pytest.raises(PluginError, match="with the model_type 'hfcontrast_dino', and .* has 'hfcontrast_simclr'"):
        DINO.from_pretrained(tmp_path)


def test_timms_initialization_survives_in_a_method():
    backbone = {"model_type": "timm_wrapper", "architecture": "resnet18"}
    weights = build(SimCLR, backbone).encoder.timm_model.state_dict()
    assert all(value.abs().max() == 0 for name, value in weights.items() if name.endswith("bn2.weight"))
    assert weights["conv1.weight"].std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.1)  # Kaiming, fan-out


def test_unknown_and_wrong_settings_of_a_configuration():
    with pytest.raises(Exception, match="temperature"):
        SimCLRConfig(temperature="hot")
    with pytest.raises(Exception, match="temperature is 0, expected a number above 0"):
        SimCLRConfig(temperature=0)


def test_forward_hands_each_step_what_it_names():
    method = build(SimCLR)
    batch = random_batch(SimCLR, 4)
    output = method(**batch)  # labels and index are not asked for
    expected = method.objective(method.embed(batch["pixel_values"]))
    torch.testing.assert_close(output.loss, expected.loss)


def test_encode_keeps_the_views_apart():
    method = build(SimCLR).eval()
    pixels = torch.randn(3, 2, 3, 32, 32)
    features = method.encode(pixels)
    assert features.shape == (3, 2, method.feature_size)
    torch.testing.assert_close(features[1, 1], method.encode(pixels[1:2, 1:2])[0, 0], rtol=1e-4, atol=1e-5)


def test_progress():
    progress = Progress(step=25, total_steps=100, steps_per_epoch=10)
    assert (progress.epoch, progress.fraction) == (2, 0.25)
    assert progress.epochs(4) == 0.5 and progress.epochs(1) == 1.0 and progress.epochs(0) == 1.0
    assert Progress(120, 100).fraction == 1.0 and Progress(0, 0).fraction == 0.0


def test_a_heads_own_initialization_is_kept():
    """Of modules whose parameters are all in their submodules too, which transformers passes over."""
    head = build(DINO, out_dim=24, hidden_dim=512, bottleneck_dim=256).head
    weights = [layer.weight for layer in head.layers if isinstance(layer, nn.Linear)]
    assert all(weight.std().item() == pytest.approx(0.02, rel=0.1) for weight in weights[1:])
    assert all((layer.bias == 0).all() for layer in head.layers if isinstance(layer, nn.Linear))
