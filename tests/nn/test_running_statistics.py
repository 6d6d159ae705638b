"""Running statistics count every batch once: not again when activations are recomputed, and as one for groups and processes."""

import copy

import pytest
import timm
import torch
import torch.distributed as dist
from timm.layers import EvoNorm2dB0, FrozenBatchNormAct2d
from torch import nn
from torch.utils.checkpoint import checkpoint

from hfcontrast.methods.moco.shuffle_bn import in_groups
from hfcontrast.nn import GlobalBatchNorm, synchronize_batch_norm
from hfcontrast.nn.running_statistics import average_over_processes, batch_norm_layers, hold_when_recomputed

IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def block(norm):
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3))


def step(model, forward):
    forward(model).square().mean().backward()
    return dict(model.named_buffers()), {name: parameter.grad for name, parameter in model.named_parameters()}


BLOCKS = {
    "plain": lambda: block(nn.BatchNorm2d(4)),
    "cumulative": lambda: block(nn.BatchNorm2d(4, momentum=None)),
    "over all processes": lambda: synchronize_batch_norm(block(nn.BatchNorm2d(4))),
    "without statistics": lambda: block(nn.BatchNorm2d(4, track_running_stats=False)),
    "another class": lambda: block(EvoNorm2dB0(4)),
}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_recomputed_activations_count_once(name, reentrant):
    plain, recomputed = BLOCKS[name](), BLOCKS[name]()
    hold_when_recomputed(recomputed)
    images = IMAGES.clone().requires_grad_()  # without it, the reentrant kind has no gradients
    for _ in range(2):
        expected = step(plain, lambda model: model(images))
        found = step(recomputed, lambda model: checkpoint(model, images, use_reentrant=reentrant))
    torch.testing.assert_close(found, expected)
    assert name == "without statistics" or not torch.equal(found[0]["1.running_var"], torch.ones(4))


def test_an_encoder_of_timm_counts_once():
    torch.manual_seed(1)
    plain = timm.create_model("resnet10t", num_classes=0)
    recomputed = copy.deepcopy(plain)
    recomputed.set_grad_checkpointing(True)
    hold_when_recomputed(recomputed)
    hold_when_recomputed(recomputed)  # once more does no harm
    torch.testing.assert_close(
        step(recomputed, lambda model: model(IMAGES)), step(plain, lambda model: model(IMAGES)), rtol=1e-3, atol=1e-5
    )


def test_which_layers_normalize_by_the_batch():
    model = nn.ModuleDict(
        {
            "batch": nn.BatchNorm2d(3),
            "held": nn.BatchNorm2d(3).eval(),
            "global": GlobalBatchNorm(3),
            "frozen": FrozenBatchNormAct2d(3),
            "instance": nn.InstanceNorm2d(3, track_running_stats=True),
            "layer": nn.LayerNorm(3),
            "evo": EvoNorm2dB0(3),
        }
    )
    assert list(batch_norm_layers(model)) == ["batch", "global", "evo"]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_groups_of_one_process_leave_what_as_many_processes_leave(momentum, on_processes):
    """By their definition: one step towards the mean over the groups of the groups' statistics."""
    rows = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13)[:, None]

    def layers():
        return nn.Sequential(nn.BatchNorm1d(3, momentum=momentum), nn.BatchNorm1d(3).eval())

    def alone(groups):
        model = layers()
        for batch in (rows, 2 * rows):
            in_groups(model, batch.clone().requires_grad_(), groups, model).square().sum().backward()
        return model[0]

    def work(number):
        model = layers()
        for batch in (rows, 2 * rows):
            in_groups(model, batch.chunk(2)[number].clone().requires_grad_(), 2, model).square().sum().backward()
            average_over_processes(model)
        return dict(model.named_buffers())

    found = alone(4)
    assert found.num_batches_tracked == 2
    parts = [batch.chunk(4) for batch in (rows, 2 * rows)]
    mean, var = torch.zeros(3), torch.ones(3)
    for number, groups in enumerate(parts):
        share = momentum or 1 / (number + 1)
        mean = (1 - share) * mean + share * torch.stack([group.mean(dim=0) for group in groups]).mean(dim=0)
        var = (1 - share) * var + share * torch.stack([group.var(dim=0) for group in groups]).mean(dim=0)
    torch.testing.assert_close((found.running_mean, found.running_var), (mean, var))
    one, two = on_processes(work)
    for name, value in found.named_buffers():
        torch.testing.assert_close(one[f"0.{name}"], value)
        assert torch.equal(one[f"0.{name}"], two[f"0.{name}"])


def test_what_is_equal_on_all_processes_stays_to_the_last_bit(on_processes):
    def work(_):
        model = nn.ModuleList([GlobalBatchNorm(50), nn.BatchNorm1d(50).eval(), nn.BatchNorm1d(50)])
        for layer in model:
            layer.running_mean.fill_(dist.get_rank() + 0.1)
        average_over_processes(model)
        return [layer.running_mean[0].item() for layer in model]

    for number, (shared, held, own) in enumerate(on_processes(work, 3)):
        assert shared == held == torch.tensor(number + 0.1).item()  # not changed
        assert own == pytest.approx(1.1)
