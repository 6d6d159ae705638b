"""Paper-size recipes against their sources: what a fresh encoder starts from, and what the hints in their comments make of them."""

import re
import shlex
from pathlib import Path

import pytest
from torch import nn

from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.methods.registry import get_method
from hfcontrast.recipe import load_recipe
from hfcontrast.testing import build
from hfcontrast.training.optim import grouped

RECIPES = Path(__file__).parents[2] / "recipes"
# Whether the gain of a residual branch's last normalization starts at zero, in the authors' code: zhirongw/lemniscate.pytorch
# models/resnet.py, vissl's default, mangye16's models, torchvision's default in moco and swav; zero_init_residual=True in the others.
ZERO_GAINS = {"instdisc": False, "pirl": False, "invaspread": False, "moco": False, "moco_v2": False, "swav": False}
ZERO_GAINS |= {"deepcluster_v2": False, "byol": True, "barlow_twins": True, "vicreg": True, "simsiam": True}


@pytest.mark.parametrize("name, zero", ZERO_GAINS.items())
def test_residual_gains_start_as_the_authors(name, zero):
    backbone = load_recipe(RECIPES / "imagenet" / f"{name}.yaml", check=False).backbone
    encoder = build_encoder(
        backbone_config({**backbone.written, "architecture": "resnet10t"}, [64])
    )  # the same code, quicker made
    last = [block.bn2.weight for stage in (1, 4) for block in getattr(encoder.timm_model, f"layer{stage}")]
    assert [float(weight.detach().abs().max()) for weight in last] == [0.0 if zero else 1.0] * 2
    assert float(encoder.timm_model.bn1.weight.detach().min()) == 1.0


def hint(recipe, first, last):
    """Overrides from a recipe's comment, as a shell would read them."""
    comment = " ".join(re.findall(r"^# ?(.*)$", (RECIPES / recipe).read_text(), re.MULTILINE))
    return shlex.split(comment[comment.index(first) : comment.index(last)])


def test_moco_v3s_hint_makes_its_resnet():
    """The authors' LARS leaves norms and biases out (moco/optimizer.py), and their ResNet-50 is the encoder."""
    overrides = hint("imagenet/moco_v3.yaml", "method.projector_layers=2", "; with 1000 epochs")
    recipe = load_recipe(RECIPES / "imagenet" / "moco_v3.yaml", overrides)
    assert recipe.backbone.fields["architecture"] == "resnet50" and recipe.optim.name == "lars"
    small = {"projection_dim": 8, "hidden_dim": 16}
    backbone = {**recipe.backbone.written, "architecture": "resnet10t"}
    method = build(get_method("moco_v3"), backbone, **{**recipe.method.options, **small})
    assert float(method.encoder.timm_model.layer1[0].bn2.weight.detach().abs().max()) == 0.0
    vectors = {id(p) for p in method.parameters() if p.ndim == 1}
    assert any(isinstance(module, nn.BatchNorm1d) for module in method.modules())
    for group in grouped(method, recipe.optim):
        assert group["decayed"] is not any(id(p) in vectors for p in group["params"])
        assert group["weight_decay"] == (1e-6 if group["decayed"] else 0.0)


def test_siglips_weight_decay_is_that_of_an_optimizer_that_multiplies_it_by_no_learning_rate():
    """big_vision/optax.py adds wd = 1e-4 after the scaling by lr = 1e-3; torch's AdamW takes lr * weight_decay off."""
    optim = load_recipe(RECIPES / "web_pairs" / "siglip.yaml", check=False).optim
    assert optim.peak_lr(32768) * optim.weight_decay == pytest.approx(1e-4)
    assert optim.clip_grad_norm == 1.0 and not optim.clip_each
