"""InstDisc: its loss, its estimate of Z and its memory bank, put together from the paper's formulas, and its settings."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods import instdisc
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.instdisc import InstDisc, InstDiscConfig
from hfcontrast.nn import sample_others
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

SMALL = {"projection_dim": 8, "negatives": 20}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def embedded(method, batch):
    """Unit embeddings of the only view."""
    features = encode(method.encoder, batch["pixel_values"][:, 0])
    return F.normalize(features @ method.head.weight.T + method.head.bias, dim=1)


def exponentials(method, batch, step=0):
    """exp(s / t) of each image's positive, (B,), and of its negatives, (B, M)."""
    v, rows = embedded(method, batch).double(), method.bank.rows.double()
    chosen = sample_others(batch["index"], method.config.negatives, len(rows), 0, step, 1)
    positives = torch.stack([v[i] @ rows[own] for i, own in enumerate(batch["index"])])
    negatives = torch.stack([torch.stack([v[i] @ rows[k] for k in row]) for i, row in enumerate(chosen)])
    return (positives / method.config.temperature).exp(), (negatives / method.config.temperature).exp()


def nce_by_hand(method, batch, partition, step=0):
    """Equations 4 to 7, with the sum over the draws of the noise."""
    positives, negatives = exponentials(method, batch, step)
    images, count = method.config.num_images, negatives.shape[1]
    h_data = (positives / partition) / (positives / partition + count / images)
    h_noise = (negatives / partition) / (negatives / partition + count / images)
    return -(h_data.log() + (1 - h_noise).log().sum(1)).mean()


def batch_of(count=5):
    batch = random_batch(InstDisc, count)
    return {**batch, "index": torch.tensor([7, 0, 63, 30, 12])[:count]}


@pytest.mark.parametrize("weight", [0, 3.5])
def test_the_loss_is_nce_with_the_first_batchs_z_and_the_proximal_term(weight):
    method, batch = build(InstDisc, **SMALL, proximal_weight=weight), batch_of()
    positives, negatives = exponentials(method, batch)
    partition = 64 * torch.cat([positives, negatives.flatten()]).mean()
    old = method.bank.rows[batch["index"]]
    proximal = (embedded(method, batch) - old).square().sum(1).mean()
    output = method(**batch)
    expected = nce_by_hand(method, batch, partition)
    torch.testing.assert_close(output.loss.double(), expected + weight * proximal.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.metrics["instance_loss"].double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.state["log_partition"].double(), partition.log(), rtol=1e-5, atol=1e-5)


def test_z_is_estimated_once():
    method, batch = build(InstDisc, **SMALL), batch_of()
    assert method.log_partition == -math.inf
    outputs = [method(**batch), method(**random_batch(InstDisc, 5))]  # two micro-batches of one step
    assert method.log_partition == -math.inf
    method.after_step(outputs, Progress(0, 10))
    first = method.log_partition.clone()
    assert first == outputs[0].state["log_partition"] and first != outputs[1].state["log_partition"]
    for step in (1, 2):
        start_step(method, Progress(step, 10))
        output = method(**batch)
        expected = nce_by_hand(method, batch, first.double().exp(), step)
        torch.testing.assert_close(output.metrics["instance_loss"].double(), expected, rtol=1e-4, atol=1e-4)
        method.after_step([output], Progress(step, 10))
        assert method.log_partition == first


def test_without_negatives_it_is_the_softmax_over_the_whole_bank():
    method, batch = build(InstDisc, projection_dim=8, negatives=None, proximal_weight=0), batch_of()
    logits = embedded(method, batch) @ method.bank.rows.T / 0.07
    torch.testing.assert_close(method(**batch).loss, F.cross_entropy(logits, batch["index"]), rtol=1e-4, atol=1e-4)
    assert "log_partition" not in method.state_dict()


def test_the_bank_moves_after_the_step_and_only_where_images_were_seen():
    method, batches = build(InstDisc, **SMALL, bank_momentum=0.25), [batch_of(), random_batch(InstDisc, 4)]
    batches[1]["index"] = torch.tensor([1, 2, 3, 4])
    before = method.bank.rows.clone()
    with torch.no_grad():
        vectors = [embedded(method, batch) for batch in batches]
    outputs = [method(**batch) for batch in batches]
    assert torch.equal(method.bank.rows, before)
    method.after_step(outputs, Progress(0, 10))
    seen = torch.cat([batch["index"] for batch in batches])
    expected = before.clone()
    expected[seen] = F.normalize(0.25 * before[seen] + 0.75 * torch.cat(vectors), dim=1)
    torch.testing.assert_close(method.bank.rows, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.bank.rows.norm(dim=1), torch.ones(64))


def test_an_image_is_never_its_own_negative_and_every_step_has_others(monkeypatch):
    drawn = []
    original = instdisc.chosen_products
    monkeypatch.setattr(
        instdisc, "chosen_products", lambda v, rows, chosen: (drawn.append(chosen), original(v, rows, chosen))[1]
    )
    method = build(InstDisc, projection_dim=8, negatives=500)
    batch = batch_of()
    for step in (0, 0, 1):
        start_step(method, Progress(step, 10, seed=4))
        method(**batch)
    assert all((chosen != batch["index"].unsqueeze(1)).all() and chosen.max() < 64 for chosen in drawn)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_more_views_are_each_compared_with_the_bank():
    method, batch = build(InstDisc, projection_dim=8, negatives=None, proximal_weight=0), batch_of()
    other = {**batch, "pixel_values": batch["pixel_values"].flip(-1)}
    both = {**batch, "pixel_values": torch.cat([batch["pixel_values"], other["pixel_values"]], 1)}
    alone = (method(**batch).loss + method(**other).loss) / 2
    torch.testing.assert_close(method(**both).loss, alone)
    mean = (embedded(method, batch) + embedded(method, other)) / 2
    torch.testing.assert_close(method(**both).state["v"], mean.detach(), rtol=1e-4, atol=1e-5)


def test_the_size_of_the_data_set_must_be_known():
    for number in (None, 1):
        with pytest.raises(ValueError, match=f"num_images is {number}"):
            build(InstDisc, num_images=number)


@pytest.mark.parametrize(
    "name, value", [("temperature", 0), ("negatives", 0), ("bank_momentum", 1.5), ("proximal_weight", -1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        InstDiscConfig(**{name: value})


def test_the_settings_are_the_papers():
    config, (view,) = InstDiscConfig(), InstDisc.views
    assert (config.projection_dim, config.temperature, config.negatives) == (128, 0.07, 4096)
    assert config.bank_momentum == 0.5
    assert (view.count, view.size, view.scale, view.horizontal_flip) == (1, 224, (0.2, 1.0), 0.5)
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.4, 0.4, 1.0)
    assert (view.grayscale, view.blur, view.solarize) == (0.2, 0, 0)


@pytest.mark.parametrize(
    "backbone, negatives", [(TINY_BACKBONE, 20), (TINY_RESNET, None)], ids=["vit, nce", "resnet, softmax"]
)
def test_contract(backbone, negatives):
    check_method(InstDisc, backbone, projection_dim=16, negatives=negatives)
