"""Optimizers against plain loops, and which parameters get which settings."""

import copy

import pytest
import torch
from torch import nn

from hfcontrast.recipe.sections import OptimSection
from hfcontrast.training.optim import LARS, build_optimizer, clip_each_gradient, parameter_groups


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


def test_lars_goes_on_from_its_state():
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
