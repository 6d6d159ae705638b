"""DeepCluster v2: what is remembered, when and how it is clustered, the first epoch, resuming, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast import testing
from hfcontrast.errors import DataError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.freezing import drop_frozen_gradients
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.deepcluster_v2 import DeepClusterV2, DeepClusterV2Config
from hfcontrast.methods.deepcluster_v2.kmeans import spherical_kmeans
from hfcontrast.methods.swav import SwAV
from hfcontrast.nn import shared_generator
from hfcontrast.testing import build, check_method, random_batch
from hfcontrast.training.optim import LARS

SMALL = {"prototypes": [4, 3, 4], "hidden_dim": 24, "projection_dim": 16}
STEPS = 2  # of an epoch


def batches():
    """An epoch of twelve images, in two batches."""
    whole = random_batch(DeepClusterV2, 12)
    whole["index"] = torch.tensor([40, 3, 17, 8, 60, 22, 5, 31, 50, 0, 63, 12])
    return [{name: value.chunk(STEPS)[part] for name, value in whole.items()} for part in range(STEPS)]


def run(method, steps, first=0, lr=0.01):
    """Steps as the training does them; returns their outputs."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr, weight_decay=0.1)
    outputs = []
    for step in range(first, first + steps):
        progress = Progress(step, 20, STEPS, seed=3)
        start_step(method, progress)
        output = method(**batches()[step % STEPS])
        output.loss.backward()
        drop_frozen_gradients(method, progress)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step([output], progress)
        outputs.append(output)
    return outputs


def clustered():
    """A method at the start of its second epoch."""
    method = build(DeepClusterV2, **SMALL)
    run(method, STEPS)
    start_step(method, Progress(STEPS, 20, STEPS, seed=3))
    return method


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_the_first_epoch_fills_the_memory_and_moves_no_weight(optimizer):
    method = build(DeepClusterV2, **SMALL)
    before = {name: p.clone() for name, p in method.named_parameters()}
    parameters = list(method.parameters())
    moved = torch.optim.AdamW(parameters, 0.01, weight_decay=0.1) if optimizer == "adamw" else LARS(parameters, 1.0, weight_decay=0.1)  # fmt: skip
    for step in range(STEPS):
        start_step(method, Progress(step, 20, STEPS))
        output = method(**batches()[step])
        assert output.loss == 0
        output.loss.backward()
        drop_frozen_gradients(method, Progress(step, 20, STEPS))
        moved.step()
        method.after_step([output], Progress(step, 20, STEPS))
    assert all(torch.equal(p, before[name]) for name, p in method.named_parameters())
    assert method.seen.nonzero().squeeze(1).tolist() == sorted(torch.cat([b["index"] for b in batches()]).tolist())
    assert (method.assignments == -100).all()


def test_the_memory_holds_the_newest_projections_of_the_large_crops():
    method = build(DeepClusterV2, **SMALL)
    start = method.memory[0].rows.clone()
    batch = batches()[0]
    output = method(**batch)
    assert torch.equal(method.memory[0].rows, start)  # filled after the loss
    method.after_step([output], Progress(0, 20, STEPS))
    for crop, bank in enumerate(method.memory):
        torch.testing.assert_close(bank.rows[batch["index"]], output.embeddings[:, crop])
    others = torch.ones(64, dtype=torch.bool)
    others[batch["index"]] = False
    assert torch.equal(method.memory[0].rows[others], start[others])


def test_every_epoch_clusters_the_memory_crop_by_crop():
    method = clustered()
    index = torch.cat([batch["index"] for batch in batches()]).sort().values
    begin = 0
    for number, count in enumerate([4, 3, 4]):
        rows = method.memory[number % 2].rows[index]
        centroids, nearest = spherical_kmeans(rows, count, shared_generator(3, 1, number))
        torch.testing.assert_close(method.centroids[begin : begin + count], centroids)
        assert torch.equal(method.assignments[number, index], nearest)
        begin += count
    assert int((method.assignments != -100).sum()) == 3 * 12  # images never seen have no cluster
    assert not torch.equal(method.assignments[0], method.assignments[2])  # the same crop, from another start

    before = method.centroids.clone()
    run(method, 1, first=STEPS)
    start_step(method, Progress(STEPS + 1, 20, STEPS, seed=3))  # within the epoch
    assert torch.equal(method.centroids, before)
    run(method, 1, first=STEPS + 1)
    start_step(method, Progress(2 * STEPS, 20, STEPS, seed=3))  # the next one
    assert not torch.equal(method.centroids, before)


def test_the_loss_is_the_cross_entropy_with_the_clusters():
    method = clustered()
    batch = batches()[0]
    output = method(**batch)
    expected, right = 0.0, 0
    for number, centroids in enumerate(method.centroids.split([4, 3, 4])):
        for row, place in enumerate(batch["index"]):
            target = method.assignments[number, place]
            for view in range(8):
                logits = centroids @ output.embeddings[row, view] / 0.1
                expected = expected - logits.log_softmax(0)[target] / (3 * 6 * 8)
                right += int(logits.argmax() == target)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.metrics["cluster_accuracy"], torch.tensor(right / (3 * 6 * 8)))


def test_images_without_a_cluster_do_not_count():
    method = clustered()
    batch = batches()[0]
    with_all = method(**batch)
    method.assignments[:, batch["index"][:4]] = -100
    output = method(**batch)
    z = output.embeddings[4:]
    losses = [
        F.cross_entropy((z @ centroids.T / 0.1).flatten(0, 1), targets.repeat_interleave(8))
        for centroids, targets in zip(method.centroids.split([4, 3, 4]), method.assignments[:, batch["index"][4:]])
    ]
    torch.testing.assert_close(output.loss, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    assert with_all.loss != output.loss


def test_centroids_are_not_trained():
    method = clustered()
    before = method.centroids.clone()
    (output,) = run(method, 1, first=STEPS)
    assert torch.equal(method.centroids, before) and output.loss > 0
    assert "centroids" not in dict(method.named_parameters()) and "centroids" in method.state_dict()


def test_a_run_resumed_within_an_epoch_keeps_its_clusters():
    method = build(DeepClusterV2, **SMALL)
    run(method, STEPS + 1)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    resumed = build(DeepClusterV2, **SMALL)
    resumed.load_state_dict(state)
    for one in (method, resumed):
        start_step(one, Progress(STEPS + 1, 20, STEPS, seed=3))
    assert torch.equal(resumed.assignments, state["assignments"]) and torch.equal(resumed.centroids, state["centroids"])
    batch = batches()[1]
    assert method(**batch).loss == resumed(**batch).loss


@pytest.mark.parametrize("check", ["gradients", "forward_changes_nothing", "samples_apart", "round_trip", "processes"])
def test_contract_with_clusters(check):
    """The contract suite's method has seen no image yet; this one has clusters to learn from, and clusters anew."""
    method = build(DeepClusterV2, **SMALL)
    batch = random_batch(DeepClusterV2, 8)
    output = method(**batch)
    method.after_step([output], Progress(0, 10, 5))
    if check != "processes":  # which starts a step of the second epoch itself, on all processes
        start_step(method, Progress(7, 10, 5))
        assert method(**batch).loss > 0
    getattr(testing, f"check_{check}")(method, batch)


def test_it_does_not_matter_that_nothing_was_seen():
    method = build(DeepClusterV2, **SMALL)
    start_step(method, Progress(7, 10, 5))
    assert (method.assignments == -100).all() and method(**batches()[0]).loss == 0


def test_too_few_images_for_the_clusters_are_refused():
    method = build(DeepClusterV2, prototypes=[13], hidden_dim=24, projection_dim=16)
    run(method, STEPS)
    with pytest.raises(
        DataError, match="memory holds 12 images after an epoch, too few for 13 clusters: lower method.prototypes"
    ):
        start_step(method, Progress(STEPS, 20, STEPS))
    with pytest.raises(DataError, match="64 images, too few for 65 clusters: lower method.prototypes"):
        build(DeepClusterV2, prototypes=[65])
    with pytest.raises(ValueError, match="num_images is not set"):
        DeepClusterV2(DeepClusterV2Config(backbone_config=dict(testing.TINY_BACKBONE)))


@pytest.mark.parametrize("name, value", [("temperature", 0), ("prototypes", [])])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match="expected"):
        DeepClusterV2Config(**{name: value})


def test_views_and_settings_are_the_papers():
    assert DeepClusterV2.views == SwAV.views
    config = DeepClusterV2Config()
    assert list(config.prototypes) == [3000, 3000, 3000] and config.kmeans_iterations == 10
    assert (config.hidden_dim, config.projection_dim, config.temperature) == (2048, 128, 0.1)


def test_contract():
    check_method(DeepClusterV2, **SMALL)
