"""Optimizers against plain loops, and the settings of parameter groups."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from hfcontrast.errors import RecipeError
from hfcontrast.methods.registry import get_method
from hfcontrast.recipe import load_recipe
from hfcontrast.recipe.sections import OptimSection
from hfcontrast.testing import build
from hfcontrast.training.optim import LARS, build_optimizer, clip_each_gradient, grouped, parameter_groups
from hfcontrast.training.schedules import set_schedules


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def plain_lars(weights, gradients, velocities, lr, momentum, weight_decay, eta, adapted):
    """The optimizer of SimCLR's authors with classic momentum, one variable after the other."""
    for name, w in weights.items():
        g = gradients[name]
        if name in adapted:
            g = g + weight_decay * w
            w_norm, g_norm = w.norm().item(), g.norm().item()
            ratio = eta * w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0
        else:
            ratio = 1.0
        velocities[name] = momentum * velocities[name] + lr * ratio * g
        weights[name] = w - velocities[name]


@pytest.mark.parametrize("everything", [False, True])
def test_lars_is_the_plain_loop(everything):
    model = network()
    nn.init.zeros_(model[3].weight)  # a norm of zero has the trust ratio 1
    settings = OptimSection(
        name="lars", lr=0.5, weight_decay=0.02, momentum=0.8, trust_coefficient=0.01, decay_norm_and_bias=everything
    )
    optimizer = build_optimizer(model, settings)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    velocities = {name: torch.zeros_like(p) for name, p in weights.items()}
    adapted = set(weights) if everything else {"0.weight", "3.weight"}
    for step in range(20):
        lr = 0.5 / (step + 1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        model(torch.randn(16, 6)).square().sub(0.3).square().mean().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
        plain_lars(weights, gradients, velocities, lr, 0.8, 0.02, 0.01, adapted)
        for name, p in model.named_parameters():
            torch.testing.assert_close(p.detach(), weights[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(weights["3.weight"], torch.zeros_like(weights["3.weight"]))


def test_lars_leaves_parameters_without_gradient_alone():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([{"params": [used, unused], "weight_decay": 0.1}], lr=1.0)
    used.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2, 2)) and not torch.equal(used, torch.ones(2, 2))
    assert optimizer.step(lambda: torch.tensor(3.0)) == 3.0


def test_lars_resumes_from_its_state():
    def steps(model, optimizer, count):
        for step in range(count):
            optimizer.zero_grad()
            model(torch.linspace(-1, 1, 24).view(4, 6) * (step + 1)).square().mean().backward()
            optimizer.step()

    settings = OptimSection(name="lars", lr=0.5, weight_decay=0.02)
    model, twin = network(), network()
    first = build_optimizer(model, settings)
    steps(model, first, 3)
    second = build_optimizer(twin, settings)
    twin.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(model, first, 2)
    steps(twin, second, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))


@pytest.mark.parametrize(
    "settings, plain",
    [
        (
            OptimSection(name="adamw", lr=0.01, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6),
            lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-6, fused=False, foreach=False),
        ),
        (
            OptimSection(name="sgd", lr=0.01, weight_decay=0.1, momentum=0.7),
            lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.7, fused=False, foreach=False),
        ),
    ],
    ids=["adamw", "sgd"],
)
def test_the_fused_optimizers_are_torchs_plain_ones(settings, plain):
    model, twin = network(), network()
    matrices, vectors = [twin[0].weight, twin[3].weight], [p for p in twin.parameters() if p.ndim == 1]
    expected = plain([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}])
    optimizer = build_optimizer(model, settings)
    for step in range(10):
        for network_, optimizer_ in ((model, optimizer), (twin, expected)):
            # Gradients that are given, not computed: that of a bias before a batch norm would be nothing but rounding, which
            # adamw's division makes as large as any other.
            torch.manual_seed(step)
            for parameter in network_.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer_.step()
    for a, b in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_groups():
    model = nn.ModuleDict(
        {
            "encoder": nn.Linear(3, 4),
            "norm": nn.LayerNorm(4),
            "predictor": nn.Linear(4, 4),
            "predictor_of_another": nn.Linear(4, 4, bias=False),
            "teacher": nn.Linear(3, 4).requires_grad_(False),
        }
    )
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {
        (g["decayed"], g["scheduled"]): (g["weight_decay"], sorted(names[id(p)] for p in g["params"]))
        for g in parameter_groups(model, 0.1, constant_lr=("predictor",))
    }
    assert groups == {
        (True, True): (0.1, ["encoder.weight", "predictor_of_another.weight"]),
        (False, True): (0.0, ["encoder.bias", "norm.bias", "norm.weight"]),
        (True, False): (0.1, ["predictor.weight"]),
        (False, False): (0.0, ["predictor.bias"]),
    }
    (everything,) = parameter_groups(model["encoder"], 0.1, decay_norm_and_bias=True)
    assert everything["weight_decay"] == 0.1 and len(everything["params"]) == 2


RECIPES = Path(__file__).parents[2] / "recipes"
VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def of(model, groups, setting):
    """A setting of the groups by parameters' names."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group[setting] for group in groups for p in group["params"]}


def test_layer_decay_and_patch_embedding_of_dinov2():
    """The authors' get_params_groups_with_decay, with the settings of the recipe for ImageNet."""
    optim = load_recipe(RECIPES / "imagenet" / "dinov2.yaml").optim
    small = {"out_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8, "learn_prototype_norm": True}
    method = build(get_method("dinov2"), {"model_type": "dinov2", **VIT}, **small)
    groups = grouped(method, optim)
    scales, decayed = of(method, groups, "lr_scale"), of(method, groups, "decayed")
    assert set(scales) == {name for name, p in method.named_parameters() if p.requires_grad}
    for name, scale in scales.items():
        layer = 4
        if name.startswith("encoder.embeddings."):
            layer = 0
        elif name.startswith("encoder.encoder.layer."):
            layer = int(name.split(".")[3]) + 1
        expected = 0.9 ** (4 - layer) * (0.2 if "patch_embed" in name else 1.0)
        assert scale == pytest.approx(expected), name
        assert decayed[name] is not (name.endswith(".bias") or "norm" in name or "lambda" in name), name
    assert scales["encoder.embeddings.patch_embeddings.projection.weight"] == pytest.approx(0.9**4 * 0.2)
    optimizer = build_optimizer(method, OptimSection(lr=1.0, scale_lr="none", min_lr=0.5, layer_decay=0.5))
    for step, lr in ((0, 1.0), (10, 0.5)):
        set_schedules(optimizer, OptimSection(lr=1.0, scale_lr="none", min_lr=0.5), step, 10, 5, 256)
        rates = of(method, optimizer.param_groups, "lr")
        assert max(rates.values()) == lr and rates["encoder.layernorm.weight"] == lr
        assert rates["encoder.embeddings.cls_token"] == pytest.approx(lr / 16)


@pytest.mark.parametrize(
    "recipe, backbone, spared",
    [
        ("imagenet/simmim", {"model_type": "swin", "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4}
         | {"image_size": 32, "patch_size": 4}, ("mask_token", "relative_position_bias_table")),
        ("imagenet/data2vec", {"model_type": "data2vec-vision", **VIT}, ("cls_token",)),
        ("imagenet/dinov2", {"model_type": "dinov2", **VIT}, ()),
        ("web_pairs/siglip", "siglip", ("position_embedding.weight", "token_embedding.weight", "probe")),
    ],
)  # fmt: skip
def test_what_the_authors_do_not_decay(recipe, backbone, spared):
    """By method: everything else of two dimensions or more that is not a bias is decayed."""
    recipe = load_recipe(RECIPES / f"{recipe}.yaml")
    if backbone == "siglip":
        tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        texts = {
            "vocab_size": 40,
            "max_position_embeddings": 12,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        }
        backbone = {"model_type": "siglip", "vision_config": {**tower, "image_size": 32, "patch_size": 8}}
        backbone |= {"text_config": {**tower, **texts, "projection_size": 16}}
    options = {"average_top_k_layers": 2} if recipe.method.name == "data2vec" else {}
    options |= {"out_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8} if recipe.method.name == "dinov2" else {}
    options |= {"mask_patch_size": 8} if recipe.method.name == "simmim" else {}
    method = build(get_method(recipe.method.name), backbone, **options)
    for name, decayed in of(method, grouped(method, recipe.optim), "decayed").items():
        kernel = method.get_parameter(name).ndim > 1 and not name.endswith(".bias")
        assert decayed is (kernel and not name.endswith(spared)), name
    for part in spared:
        assert any(name.endswith(part) for name, _ in method.named_parameters()), part


def test_no_decay_by_name_and_names_that_nothing_has():
    model = nn.ModuleDict({"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 4)})
    settings = OptimSection(weight_decay=0.1, no_decay=["head.weight"], decay_norm_and_bias=True)
    assert of(model, grouped(model, settings), "weight_decay") == {
        "encoder.weight": 0.1,
        "encoder.bias": 0.1,
        "head.weight": 0.0,
        "head.bias": 0.1,
    }
    assert len(grouped(model, OptimSection(weight_decay=0.1, no_decay=["class_token"]))) == 2  # a kind that it has not
    with pytest.raises(RecipeError, match="optim.no_decay: 'cls_tokens' is not a kind of parameters \\(class_token, "):
        grouped(model, OptimSection(weight_decay=0.1, no_decay=["cls_tokens"]))
    with pytest.raises(RecipeError, match="optim.patch_embed_lr_mult: the encoder has no patch embedding"):
        grouped(model, OptimSection(patch_embed_lr_mult=0.2))
    with pytest.raises(RecipeError, match="layer_decay: the layers of encoder 'Linear' are not known"):
        grouped(model, OptimSection(layer_decay=0.9))


def test_an_optimizer_state_without_factors_on_the_learning_rate_is_taken():
    """Of a checkpoint from before there were any: the groups are the same."""
    model, settings = network(), OptimSection(lr=0.5, scale_lr="none", weight_decay=0.1)
    former = build_optimizer(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    former.step()
    state = former.state_dict()
    for group in state["param_groups"]:
        del group["lr_scale"]
    optimizer = build_optimizer(model, settings)
    optimizer.load_state_dict(state)
    assert set_schedules(optimizer, settings, 0, 10, 5, 256) == 0.5
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.5, 0.1), (0.5, 0.0)]


def test_barlow_twins_steps_are_those_of_the_authors_on_sixteen_gpus():
    """Their LARS on the mean of the processes' gradients, each of which is that of its own images: a 16th of the loss's."""
    recipe = load_recipe(RECIPES / "imagenet" / "barlow_twins.yaml")
    model, theirs = network(), {name: p.detach().clone() for name, p in network().named_parameters()}
    optimizer = build_optimizer(model, recipe.optim)
    lr = set_schedules(optimizer, recipe.optim, 10 * 625, 1000 * 625, 625, recipe.train.batch_size)
    assert lr == pytest.approx(1.6)
    for name, parameter in model.named_parameters():
        torch.manual_seed(len(name))
        gradient = 1e-4 * torch.randn_like(parameter)
        parameter.grad = recipe.method.options["loss_scale"] * gradient
        weight, step = theirs[name], gradient / 16
        if weight.ndim == 1:
            theirs[name] = weight - 8 * 0.0048 * step
        else:
            step = step + 1e-6 * weight
            theirs[name] = weight - 8 * 0.2 * 0.001 * weight.norm() / step.norm() * step
    optimizer.step()
    for name, parameter in model.named_parameters():
        change = theirs[name] - network().get_parameter(name).detach()
        torch.testing.assert_close(
            parameter.detach() - network().get_parameter(name).detach(), change, rtol=1e-2, atol=2e-7
        )


def test_each_gradient_is_clipped_by_its_own_norm():
    model = network()
    model(torch.randn(8, 6)).square().sum().mul(3).backward()
    model[1].weight.grad = None
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    limit = float(sorted(g.norm() for g in gradients.values())[2]) * 1.01
    clip_each_gradient(list(model.parameters()), limit)
    clipped = 0
    for name, gradient in gradients.items():  # the loop of DINO's authors
        coefficient = limit / (gradient.norm() + 1e-6)
        if coefficient < 1:
            gradient.mul_(coefficient)
            clipped += 1
        torch.testing.assert_close(model.get_parameter(name).grad, gradient)
    assert 0 < clipped < len(gradients)


def test_sgd_takes_a_parameter_whose_first_gradient_comes_late():
    """As DINO's and SwAV's prototypes, which do not move at first."""
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "prototypes": nn.Linear(2, 2)})
    optimizer = build_optimizer(model, OptimSection(name="sgd", lr=0.5, scale_lr="none"))
    start = model["prototypes"].weight.detach().clone()
    for frozen in (True, False):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        if frozen:
            model["prototypes"].weight.grad = None
        optimizer.step()
    torch.testing.assert_close(model["prototypes"].weight, start - 0.5)
