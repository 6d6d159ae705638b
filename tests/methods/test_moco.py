"""MoCo: its loss put together by hand, its queue, its key encoder, shuffle-BN, and the paper's settings."""

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.moco import MoCo, MoCoConfig
from hfcontrast.nn import rank, shared_generator, synchronize_batch_norm
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"projection_dim": 8, "queue_size": 20}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(query, key, queue, temperature):
    """Algorithm 1 of the paper: the positive's logit in front of those of the queue."""
    q, k, queue = (F.normalize(rows, dim=1) for rows in (query, key, queue))
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def queries_and_keys(method, pixels):
    query = encode(method.encoder, pixels[:, 0]) @ method.head[0].weight.T + method.head[0].bias
    key = (
        encode(method.momentum_encoder, pixels[:, 1]) @ method.momentum_head[0].weight.T + method.momentum_head[0].bias
    )
    return query, key


def perturb(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def test_the_loss_is_that_of_the_parts():
    method = build(MoCo, **SMALL, temperature=0.3)
    perturb(method.momentum_encoder)
    perturb(method.momentum_head)
    pixels = random_batch(MoCo, 5)["pixel_values"]
    output = method(pixel_values=pixels)
    query, key = queries_and_keys(method, pixels)
    torch.testing.assert_close(output.loss, by_hand(query, key, method.queue.rows, 0.3), rtol=1e-4, atol=1e-5)
    units = F.normalize(torch.stack([query, key], dim=1), dim=2)
    torch.testing.assert_close(output.embeddings, units.detach(), rtol=1e-4, atol=1e-5)
    expected = (units[:, 0] * units[:, 1]).sum(1).mean()
    torch.testing.assert_close(output.metrics["positive_similarity"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_only_the_query_has_a_gradient():
    method = build(MoCo, **SMALL)
    embedded = method.embed(random_batch(MoCo, 3)["pixel_values"])
    assert embedded["query"].shape == embedded["key"].shape == (3, 1, method.feature_size)
    assert embedded["query"].requires_grad and not embedded["key"].requires_grad
    method.objective(embedded).loss.backward()
    assert all(p.grad is None for p in (*method.momentum_encoder.parameters(), *method.momentum_head.parameters()))
    assert method.queue.rows.grad is None


def test_keys_enter_the_queue_after_the_loss():
    method = build(MoCo, **SMALL)
    batches = [random_batch(MoCo, 4)["pixel_values"].flip(axis) for axis in (-1, -2, 0)]
    for step, pixels in enumerate(batches):
        before = method.queue.rows.clone()
        _, key = queries_and_keys(method, pixels)
        key = F.normalize(key, dim=1).detach()
        output = method(pixel_values=pixels)
        # The positive is none of its own negatives.
        assert torch.equal(method.queue.rows, before) and (key @ before.T).max() < 0.999
        method.after_step([output], Progress(step, 10))
        torch.testing.assert_close(method.queue.rows[4 * step : 4 * step + 4], key, rtol=1e-4, atol=1e-5)
        kept = [row for row in range(20) if not 4 * step <= row < 4 * step + 4]
        assert torch.equal(method.queue.rows[kept], before[kept])
    torch.testing.assert_close(method.queue.rows.norm(dim=1), torch.ones(20))


def test_every_micro_batch_is_remembered():
    method = build(MoCo, **SMALL)
    outputs = [method(pixel_values=random_batch(MoCo, 4)["pixel_values"].flip(axis)) for axis in (-1, -2)]
    method.after_step(outputs, Progress(0, 10))
    keys = torch.cat([output.state["keys"] for output in outputs])
    torch.testing.assert_close(method.queue.rows[:8], keys)
    assert method.queue.filled == 8


def test_the_key_encoder_is_a_moving_average():
    method = build(MoCo, **SMALL, momentum=0.75)
    output = method(pixel_values=random_batch(MoCo, 2)["pixel_values"])
    perturb(method)
    before = {name: p.clone() for name, p in method.named_parameters()}
    method.after_step([output], Progress(5, 10))
    for name, parameter in method.named_parameters():
        if name.startswith("momentum_"):
            expected = 0.75 * before[name] + 0.25 * before[name.removeprefix("momentum_")]
            torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(parameter, before[name])
    assert method.export_encoder() is method.encoder


def test_keys_have_the_statistics_of_their_shuffled_group():
    """One process with four groups: queries in order, keys shuffled; each group normalized by itself."""
    method = build(MoCo, TINY_RESNET, **SMALL, batch_norm_groups=4)
    pixels = random_batch(MoCo, 8)["pixel_values"]
    start_step(method, Progress(6, 10, seed=3))
    embedded = method.embed(pixels)
    order = torch.randperm(8, generator=shared_generator(3, 6, 1)).tolist()
    assert order != list(range(8))
    for start in range(0, 8, 2):
        query = encode(method.encoder, pixels[start : start + 2, 0])
        torch.testing.assert_close(embedded["query"][start : start + 2, 0], query)
        rows = order[start : start + 2]
        torch.testing.assert_close(embedded["key"][rows, 0], encode(method.momentum_encoder, pixels[rows, 1]))


def gradients(method, pixels):
    """Keys, loss and gradients of a step; averaged over the processes as DistributedDataParallel does."""
    start_step(method, Progress(2, 10, seed=1))
    output = method(pixel_values=pixels)
    output.loss.backward()
    found = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    loss = output.loss.detach()
    if dist.is_initialized():
        for value in (*found.values(), loss):
            dist.all_reduce(value)
            value /= dist.get_world_size()
    return output.state["keys"], loss, found


@pytest.mark.parametrize("groups", [None, 4])
def test_shuffling_over_two_processes_is_shuffling_groups_of_one(on_processes, groups):
    """Per-process statistics on two processes are those of two groups on one; four groups are two on each."""
    pixels = random_batch(MoCo, 8)["pixel_values"]
    keys, loss, expected = gradients(build(MoCo, TINY_RESNET, **SMALL, batch_norm_groups=groups or 2), pixels)
    results = on_processes(
        lambda _: gradients(build(MoCo, TINY_RESNET, **SMALL, batch_norm_groups=groups), pixels.chunk(2)[rank()])
    )
    torch.testing.assert_close(torch.cat([result[0] for result in results]), keys, rtol=1e-4, atol=1e-5)
    for _, found_loss, found in results:
        torch.testing.assert_close(found_loss, loss, rtol=1e-4, atol=1e-5)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_a_key_does_not_have_the_statistics_of_its_query(on_processes):
    """Same image, same weights, both views equal: what differs are the batch statistics, which shuffling exchanges."""
    pixels = random_batch(MoCo, 8)["pixel_values"][:, :1].expand(-1, 2, -1, -1, -1)

    def run(_):
        own, found = pixels.chunk(2)[rank()], {}
        for name, backbone, shared in (
            ("local", TINY_RESNET, False),
            ("shared", TINY_RESNET, True),
            ("none", None, False),
        ):
            method = build(MoCo, backbone, **SMALL)
            method = synchronize_batch_norm(method) if shared else method
            start_step(method, Progress(2, 10, seed=1))
            embedded = method.embed(own)
            found[name] = (embedded["query"] - embedded["key"]).abs().max().item()
        return found

    for found in on_processes(run):
        assert found["local"] > 0.01
        assert found["shared"] < 1e-5 and found["none"] < 1e-5


def test_groups_need_statistics_of_each_process(on_processes):
    def run(_):
        method = synchronize_batch_norm(build(MoCo, TINY_RESNET, **SMALL, batch_norm_groups=4))
        with pytest.raises(RecipeError, match="batch_norm_groups is 4.*set train.sync_batchnorm: false"):
            method(pixel_values=random_batch(MoCo, 4)["pixel_values"])
        return True

    assert on_processes(run) == [True, True]


def test_other_numbers_of_views_are_refused():
    pixels = random_batch(MoCo, 2)["pixel_values"]
    with pytest.raises(RecipeError, match="two views .* got 3: change the count"):
        build(MoCo, **SMALL)(pixel_values=torch.cat([pixels, pixels[:, :1]], dim=1))


def test_the_settings_are_the_papers():
    config = MoCoConfig()
    assert (config.projection_dim, config.queue_size, config.temperature, config.momentum) == (128, 65536, 0.07, 0.999)
    assert [type(layer).__name__ for layer in build(MoCo, queue_size=4).head] == ["Linear"]


def test_the_views_are_the_papers():
    (view,) = MoCo.views
    assert (view.count, view.size, view.scale, view.horizontal_flip, view.interpolation) == (
        2,
        224,
        (0.2, 1.0),
        0.5,
        "bilinear",
    )
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.4, 0.4, 1.0)
    assert (view.grayscale, view.blur, view.solarize) == (0.2, 0.0, 0.0)


@pytest.mark.parametrize(
    "name, value", [("temperature", 0), ("momentum", 1.5), ("queue_size", 0), ("batch_norm_groups", 0)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        MoCoConfig(**{name: value})


def test_contract():
    check_method(MoCo, **SMALL)
