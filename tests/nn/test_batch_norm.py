"""Batch normalization over the global batch equals batch normalization of that batch on one process."""

import copy

import pytest
import timm
import torch
import torch.distributed as dist
from torch import nn

from hfcontrast.nn import GlobalBatchNorm, synchronize_batch_norm


def layers(momentum):
    """The shapes that batch normalization meets: vectors, images, and without weights."""
    torch.manual_seed(3)
    cases = [
        (nn.BatchNorm1d(3, momentum=momentum), torch.randn(8, 3) * 2 + 1),
        (nn.BatchNorm2d(3, momentum=momentum, eps=1e-3), torch.randn(8, 3, 4, 5) - 3),
        (nn.BatchNorm1d(3, momentum=momentum, affine=False), torch.randn(8, 3, 2)),
        (nn.BatchNorm2d(3, momentum=momentum, track_running_stats=False), torch.randn(8, 3, 2, 2)),
    ]
    for layer, _ in cases:
        if layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.bias)
    return cases


def steps(layer, batches):
    """Two training steps, then evaluation: everything that a layer gives and keeps."""
    found = []
    for batch in batches:
        batch = batch.clone().requires_grad_()
        output = layer(batch)
        output.sin().sum().backward()
        found.append((output.detach(), batch.grad))
    layer.eval()
    found.append((layer(batches[0]).detach(), torch.zeros(())))
    return found, {name: p.grad for name, p in layer.named_parameters()}, dict(layer.named_buffers())


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_two_processes_equal_one(momentum, on_processes):
    def work(number):
        results = []
        for layer, data in layers(momentum):
            layer = synchronize_batch_norm(nn.Sequential(layer))[0]
            assert isinstance(layer, GlobalBatchNorm)
            found, gradients, buffers = steps(layer, [data.chunk(2)[number], 2 * data.chunk(2)[number] + 1])
            for gradient in gradients.values():
                dist.all_reduce(gradient)
            results.append((found, gradients, buffers))
        return results

    both = on_processes(work)
    for number, (layer, data) in enumerate(layers(momentum)):
        expected, gradients, buffers = steps(layer, [data, 2 * data + 1])
        for step in range(2):
            for part in range(2):  # outputs, then gradients of the inputs
                found = torch.cat([results[number][0][step][part] for results in both])
                torch.testing.assert_close(found, expected[step][part], rtol=1e-4, atol=1e-5)
        for results in both:
            _, found_gradients, found_buffers = results[number]
            for name, value in gradients.items():
                torch.testing.assert_close(found_gradients[name], value, rtol=1e-4, atol=1e-4)
            assert found_buffers.keys() == buffers.keys()
            for name, value in buffers.items():
                torch.testing.assert_close(found_buffers[name], value, rtol=1e-4, atol=1e-5)
        if layer.track_running_stats:
            found = torch.cat([results[number][0][2][0] for results in both])
            torch.testing.assert_close(found, expected[2][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_alone_it_is_batch_normalization(momentum):
    for layer, data in layers(momentum):
        twin = synchronize_batch_norm(nn.Sequential(copy.deepcopy(layer)))[0]
        torch.testing.assert_close(twin.eval()(data), layer.eval()(data))  # before the first training step, too
        expected, gradients, buffers = steps(layer.train(), [data, 2 * data])
        found, twin_gradients, twin_buffers = steps(twin.train(), [data, 2 * data])
        torch.testing.assert_close((found, twin_gradients, twin_buffers), (expected, gradients, buffers))


def test_names_tensors_and_modes_are_kept():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ModuleDict({"bn": nn.BatchNorm2d(4, momentum=0.3)}), nn.BatchNorm2d(4))
    model[2].eval()
    model[2].weight.requires_grad_(False)
    names = list(model.state_dict())
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    synchronize_batch_norm(model)
    assert list(model.state_dict()) == names
    assert all(value is parameters[name] for name, value in model.named_parameters())
    assert all(value is buffers[name] for name, value in model.named_buffers())
    assert isinstance(model[1]["bn"], GlobalBatchNorm) and model[1]["bn"].momentum == 0.3 and model[1]["bn"].training
    assert not model[2].training and not model[2].weight.requires_grad
    assert synchronize_batch_norm(model)[2] is model[2]  # once is enough


def test_activations_inside_timms_normalization_are_kept():
    model = timm.create_model("mobilenetv3_small_050", num_classes=0)
    twin = synchronize_batch_norm(copy.deepcopy(model))
    assert any(isinstance(module, GlobalBatchNorm) for module in twin.modules())
    pixels = torch.randn(4, 3, 32, 32)
    for mode in (True, False):
        torch.testing.assert_close(twin.train(mode)(pixels), model.train(mode)(pixels))
    assert list(twin.state_dict()) == list(model.state_dict())


def test_half_precision_goes_in_and_comes_out(on_processes):
    def work(number):
        layer = synchronize_batch_norm(nn.Sequential(nn.BatchNorm1d(2)))
        output = layer(torch.randn(4, 2).bfloat16())
        return output.dtype, bool(torch.isfinite(output).all())

    assert on_processes(work) == [(torch.bfloat16, True)] * 2
