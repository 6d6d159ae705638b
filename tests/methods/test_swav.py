"""SwAV: the loss against the paper's algorithm, what its prototypes and its queue do, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.freezing import drop_frozen_gradients
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.swav import SwAV, SwAVConfig
from hfcontrast.testing import build, check_method, check_processes, check_round_trip, random_batch

SMALL = {"prototypes": 12, "hidden_dim": 24, "projection_dim": 16}
QUEUE = {"queue_length": 6, "queue_start_epoch": 2}


def train_step(method, batch, progress):
    """One optimizer step as the training does it."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    start_step(method, progress)
    output = method(**batch)
    output.loss.backward()
    drop_frozen_gradients(method, progress)
    optimizer.step()
    method.after_step([output], progress)
    return output


def by_hand(z, prototypes, temperature, epsilon, earlier=None):
    """The paper's algorithm (appendix A): exponentials, rows and columns scaled in turn, a loop over pairs of views."""
    z, prototypes = z.double(), F.normalize(prototypes.double(), dim=1)
    images, views, _ = z.shape
    loss = 0.0
    for target in range(2):
        rows = z[:, target] if earlier is None else torch.cat([earlier[target].double(), z[:, target]])
        q = (rows @ prototypes.T / epsilon).exp().T
        q = q / q.sum()
        for _ in range(3):
            q = q / q.sum(1, keepdim=True) / len(q)
            q = q / q.sum(0, keepdim=True) / q.shape[1]
        q = (q * q.shape[1]).T[-images:]
        for view in range(views):
            if view != target:
                p = (z[:, view] @ prototypes.T / temperature).softmax(1)
                loss = loss - (q * p.log()).sum(1).mean() / (views - 1)
    return (loss / 2).float()


@pytest.mark.parametrize("local", [True, False])
def test_the_loss_is_the_papers(local):
    method = build(SwAV, **SMALL, queue_length=0, temperature=0.2, epsilon=0.1)
    start_step(method, Progress(0, 10))
    batch = random_batch(SwAV, 5)
    if not local:
        del batch["local_pixel_values"]
    output = method(**batch)
    assert output.embeddings.shape == (5, 8 if local else 2, 16)
    expected = by_hand(output.embeddings, method.prototypes.weight, 0.2, 0.1)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)


def test_the_loss_with_a_full_queue_is_the_papers():
    method = build(SwAV, **SMALL, queue_length=7)
    for queue in method.queues:
        queue.enqueue(torch.randn(9, 16))
    start_step(method, Progress(0, 10))
    output = method(**random_batch(SwAV, 5))
    earlier = [queue.rows for queue in method.queues]
    expected = by_hand(output.embeddings, method.prototypes.weight, 0.1, 0.05, earlier)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    without = by_hand(output.embeddings, method.prototypes.weight, 0.1, 0.05)
    assert abs(output.loss - without) > 1e-3


def test_assignments_use_all_prototypes_and_carry_no_gradient():
    method = build(
        SwAV, prototypes=4, hidden_dim=24, projection_dim=16, queue_length=0, sinkhorn_iterations=30, epsilon=0.5
    )
    z = F.normalize(torch.randn(20, 2, 16), dim=-1).requires_grad_()
    assignments = method.assign(z)
    assert not assignments.requires_grad
    torch.testing.assert_close(assignments.sum(-1), torch.ones(20, 2))
    torch.testing.assert_close(assignments.sum(0), torch.full((2, 4), 5.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_assignments_do_not_know_of_mixed_precision(dtype):
    method = build(SwAV, **SMALL, queue_length=6, epsilon=0.01)  # exp(1 / 0.01) is not a number of half precision
    for queue in method.queues:
        queue.enqueue(torch.randn(6, 16))
    start_step(method, Progress(0, 10))
    z = F.normalize(torch.randn(8, 2, 16), dim=-1)
    expected = method.assign(z)
    with torch.autocast("cpu", dtype):
        found = method.assign(z)
    assert torch.equal(found, expected) and torch.isfinite(found).all()


def test_it_trains_in_bfloat16():
    method = build(SwAV, **SMALL, queue_length=0)
    start_step(method, Progress(0, 10))
    batch = random_batch(SwAV, 8)
    exact = method(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        output = method(**batch)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, exact, rtol=0.05, atol=0.05)
    assert torch.isfinite(method.prototypes.weight.grad).all()


def test_prototypes_are_unit_vectors_at_the_start_of_every_step():
    method = build(SwAV, **SMALL, freeze_prototypes_steps=0)
    batch = random_batch(SwAV, 4)
    for step in range(3):
        train_step(method, batch, Progress(step, 10))
        assert (
            method.prototypes.weight.norm(dim=1) - 1
        ).abs().max() > 1e-4  # the optimizer has moved them off the sphere
        direction = F.normalize(method.prototypes.weight.detach(), dim=1)
        start_step(method, Progress(step + 1, 10))
        torch.testing.assert_close(method.prototypes.weight.detach(), direction)


def test_prototypes_are_frozen_at_first():
    method = build(SwAV, **SMALL, freeze_prototypes_steps=3)
    batch = random_batch(SwAV, 4)
    start_step(method, Progress(0, 10))
    start = method.prototypes.weight.clone()
    encoder = next(method.encoder.parameters()).clone()
    for step in range(3):
        train_step(method, batch, Progress(step, 10))
    torch.testing.assert_close(method.prototypes.weight, start, rtol=1e-6, atol=1e-6)
    assert not torch.equal(next(method.encoder.parameters()), encoder)
    train_step(method, batch, Progress(3, 10))
    assert (method.prototypes.weight - start).abs().max() > 1e-3


def test_the_queue_starts_at_its_epoch_and_is_used_once_full():
    method = build(SwAV, **SMALL, **QUEUE)
    batch = random_batch(SwAV, 4)
    for step, filled in [(0, 0), (1, 0), (2, 4), (3, 6)]:  # an epoch is a step, a step four images, the queue holds six
        assert not method.queue_is_full
        train_step(method, batch, Progress(step, 10))
        assert all(queue.filled == filled for queue in method.queues)
    start_step(method, Progress(4, 10))
    assert method.queue_is_full


def test_each_large_crop_has_its_own_queue_filled_after_the_loss():
    method = build(SwAV, **SMALL, queue_length=8, queue_start_epoch=0)
    batches = [random_batch(SwAV, 4), {k: v.flip(-1) if v.ndim > 1 else v for k, v in random_batch(SwAV, 4).items()}]
    before = [queue.rows.clone() for queue in method.queues]
    outputs = [method(**batch) for batch in batches]  # two micro-batches of one step
    assert all(torch.equal(queue.rows, rows) for queue, rows in zip(method.queues, before))
    method.after_step(outputs, Progress(0, 10))
    for crop, queue in enumerate(method.queues):
        expected = torch.cat([output.embeddings[:, crop] for output in outputs])
        torch.testing.assert_close(queue.rows, expected)


def test_two_processes_and_a_saved_method_know_the_queue():
    method = build(SwAV, **SMALL, queue_length=10, queue_start_epoch=0)
    for queue in method.queues:
        queue.enqueue(torch.randn(10, 16))
    start_step(method, Progress(7, 10, 5))
    assert method.queue_is_full
    check_processes(method, random_batch(SwAV, 8))
    check_round_trip(method, random_batch(SwAV, 8))


def test_crops_of_one_size_share_a_pass_and_all_crops_the_head():
    method = build(SwAV, **SMALL)
    seen = []
    method.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    method.projector[1].register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    method(**random_batch(SwAV, 3))
    assert seen == [(6, 3, 32, 32), (18, 3, 16, 16), (24, 24)]


def test_views_and_settings_are_the_papers():
    large, small = SwAV.views
    for view in SwAV.views:
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.8, 0.8, 0.8, 0.2, 0.8)
        assert (view.grayscale, view.blur, view.blur_sigma, view.horizontal_flip) == (0.2, 0.5, (0.1, 2.0), 0.5)
        assert (view.solarize, view.interpolation) == (0.0, "bilinear")
    assert (large.key, large.count, large.size, large.scale) == ("pixel_values", 2, 224, (0.14, 1.0))
    assert (small.key, small.count, small.size, small.scale) == ("local_pixel_values", 6, 96, (0.05, 0.14))
    config = SwAVConfig()
    assert (config.prototypes, config.hidden_dim, config.projection_dim) == (3000, 2048, 128)
    assert (config.temperature, config.epsilon, config.sinkhorn_iterations) == (0.1, 0.05, 3)
    assert (config.queue_length, config.queue_start_epoch, config.freeze_prototypes_steps) == (3840, 15, 313)


@pytest.mark.parametrize(
    "name, value", [("temperature", 0), ("epsilon", -0.1), ("prototypes", 0), ("queue_length", -1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        SwAVConfig(**{name: value})


def test_contract():
    check_method(SwAV, **SMALL, queue_length=16, queue_start_epoch=0, freeze_prototypes_steps=2)
