"""Evaluators against plain loops."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import DataError
from hfcontrast.evaluation.feature_rows import FeatureRows
from hfcontrast.evaluation.feature_statistics import FeatureStatistics
from hfcontrast.evaluation.features import extract_features, join_processes
from hfcontrast.evaluation.knn import knn_accuracy
from hfcontrast.nn import effective_rank
from tests.evaluation.conftest import online

CPU = torch.device("cpu")


def plain_knn(bank, bank_labels, queries, query_labels, k, temperature):
    """The vote, one query and one neighbor after the other."""
    correct = 0
    for query, label in zip(queries.double(), query_labels.tolist()):
        similarity = [F.cosine_similarity(query, other, dim=0).item() for other in bank.double()]
        nearest = sorted(range(len(bank)), key=lambda i: -similarity[i])[:k]
        votes = {}
        for i in nearest:
            c = bank_labels[i].item()
            votes[c] = votes.get(c, 0.0) + math.exp(similarity[i] / temperature)
        correct += max(votes, key=votes.get) == label
    return correct / len(queries)


def clusters(count, classes=4, width=6):
    """Overlapping classes, so that neighbors disagree."""
    labels = torch.arange(count) % classes
    return torch.eye(classes, width)[labels] + 0.7 * torch.randn(count, width), labels


def test_labels_may_be_any_numbers(monkeypatch):
    torch.manual_seed(0)
    (bank, bank_labels), (queries, query_labels) = clusters(60), clusters(40)
    expected = knn_accuracy(bank, bank_labels, queries, query_labels)
    monkeypatch.setattr("hfcontrast.evaluation.knn._VOTES", 12)  # three test images at once
    large = [labels * 3 + 2**40 for labels in (bank_labels, query_labels)]
    assert 0.4 < expected == knn_accuracy(bank, large[0], queries, large[1]) < 1


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_knn_equals_the_plain_vote(k, temperature):
    bank, queries = clusters(60), clusters(50)
    expected = plain_knn(*bank, *queries, k, temperature)
    assert 0.3 < expected < 1.0
    assert knn_accuracy(*bank, *queries, k, temperature) == pytest.approx(expected)


def test_near_neighbors_weigh_more():
    bank = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    labels, query = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]])
    assert knn_accuracy(bank, labels, query, torch.tensor([0]), k=3, temperature=0.07) == 1.0
    assert knn_accuracy(bank, labels, query, torch.tensor([1]), k=3, temperature=100.0) == 1.0


def test_more_neighbors_than_the_bank_has():
    bank, queries = clusters(12), clusters(20)
    expected = plain_knn(*bank, *queries, 12, 0.1)
    assert knn_accuracy(*bank, *queries, 500, 0.1) == pytest.approx(expected)


def test_a_very_low_temperature_is_the_nearest_neighbor():
    bank, queries = clusters(60), clusters(50)
    assert knn_accuracy(*bank, *queries, 20, 1e-3) == knn_accuracy(*bank, *queries, 1, 0.07)


def test_many_queries_are_taken_in_parts():
    bank, (queries, labels) = clusters(30), clusters(1500)
    parts = [knn_accuracy(*bank, queries[i : i + 100], labels[i : i + 100], 5, 0.1) for i in range(0, 1500, 100)]
    assert knn_accuracy(*bank, queries, labels, 5, 0.1) == pytest.approx(sum(parts) / 15)


def test_the_effective_rank_is_of_rows_of_all_classes():
    labels = torch.arange(4096) // 512  # eight classes that follow each other, each along an axis of its own
    rows = FeatureRows(None, (F.one_hot(labels, 8).float(), labels))
    assert FeatureStatistics().evaluate(None, rows, None).figures["effective_rank"] == pytest.approx(7.0, abs=0.1)


def test_effective_rank_of_known_matrices():
    orthogonal = torch.linalg.qr(torch.randn(64, 9))[0] - torch.zeros(64, 9)
    orthogonal = orthogonal - orthogonal.mean(0)
    orthogonal = torch.linalg.qr(orthogonal)[0]  # nine centerd directions of equal strength
    assert effective_rank(orthogonal + 5) == pytest.approx(9.0, abs=1e-3)
    assert effective_rank(torch.outer(torch.randn(64), torch.randn(9))) == pytest.approx(1.0, abs=1e-3)
    assert effective_rank(torch.ones(64, 9)) == pytest.approx(1.0)
    # Singular values 3 and 1: exp(-(3/4 log 3/4 + 1/4 log 1/4)) = 1.7548
    assert effective_rank(orthogonal[:, :2] * torch.tensor([3.0, 1.0])) == pytest.approx(1.7548, abs=1e-3)


@pytest.fixture
def encoder():
    tiny = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    return build_encoder(backbone_config({"model_type": "resnet", **tiny}, [32]))


def batches(count=3):
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(4, 3, 32, 32, generator=generator), torch.arange(4) + 4 * i) for i in range(count)]


def test_features_are_those_of_evaluation_mode_and_modes_come_back(encoder):
    encoder.train()
    encoder.embedder.eval()
    modes = [module.training for module in encoder.modules()]
    statistics = {name: value.clone() for name, value in encoder.named_buffers()}
    features, labels = extract_features(encoder, batches())
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(value, statistics[name]) for name, value in encoder.named_buffers())
    assert labels.tolist() == list(range(12)) and not features.requires_grad
    encoder.eval()
    torch.testing.assert_close(features, torch.cat([encode(encoder, pixels) for pixels, _ in batches()]).detach())


def test_modes_come_back_after_an_error(encoder):
    def broken():
        yield batches()[0]
        raise OSError("the disk is gone")

    encoder.train()
    with pytest.raises(OSError, match="the disk is gone"):
        extract_features(encoder, broken())
    assert all(module.training for module in encoder.modules())


def test_processes_join_unequal_shares_in_the_order_of_the_data_set(on_processes):
    whole = torch.arange(10.0).view(5, 2)

    def work(number):
        return join_processes(whole[number::2]), join_processes(torch.tensor([7, 8, 9])[number::2])

    for rows, labels in on_processes(work):
        assert rows.tolist() == whole.tolist() and labels.tolist() == [7, 8, 9]


def test_a_process_may_have_no_share(on_processes):
    for rows in on_processes(lambda number: join_processes(torch.ones(3, 2)[: 3 * number])):
        assert rows.tolist() == [[1.0, 1.0]] * 3


def test_online_evaluation(encoder):
    pixels = torch.randn(8, 3, 32, 32)
    data = [(pixels, torch.arange(8) % 4)]
    scores = online(lambda: data, lambda: data, knn={"k": 1})(encoder)
    assert scores["knn_accuracy"] == 1.0  # every image is its own neighbor
    assert scores["feature_std"] > 0 and 1 <= scores["effective_rank"] <= 8
    unlabeled = online(None, lambda: data)
    assert "knn_accuracy" not in unlabeled(encoder) and unlabeled.raw_pixels(CPU) == {}


def test_the_linear_probe_is_fitted_in_thorough_evaluations_where_it_was_asked_for(encoder):
    pixels = torch.randn(40, 3, 16, 16)
    labels = torch.arange(40) % 2
    pixels[labels == 1] += 4.0
    data = [(pixels, labels)]
    quick = online(lambda: data, lambda: data)
    assert "linear_accuracy" not in {**quick(encoder, thorough=True), **quick.raw_pixels(CPU)}
    asked = online(lambda: data, lambda: data, linear={})
    assert "linear_accuracy" not in asked(encoder)
    scores = asked(encoder, thorough=True)
    assert scores["linear_accuracy"] == 1.0 and scores["knn_accuracy"] == asked(encoder)["knn_accuracy"]
    assert asked.raw_pixels(CPU)["linear_accuracy"] == 1.0
    hidden = [(pixels, torch.full((40,), -1))]  # a test split without labels
    assert "linear_accuracy" not in online(lambda: data, lambda: hidden, linear={})(encoder, True)


def test_a_collapse_shows(encoder):
    data = [(torch.randn(8, 3, 32, 32), torch.zeros(8, dtype=torch.long))]
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
            nn.init.ones_(module.bias)
    scores = online(None, lambda: data)(encoder)
    assert scores["feature_std"] == pytest.approx(0.0, abs=1e-4) and scores["effective_rank"] == pytest.approx(1.0)


def test_raw_pixels_are_averaged_down():
    large = torch.randn(6, 3, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
    data, labels = [(large, torch.arange(6))], torch.arange(6)
    small = [(large[:, :, ::2, ::2], labels)]
    assert online(lambda: small, lambda: data, knn={"k": 1}).raw_pixels(CPU) == {"knn_accuracy": 1.0}


def test_rows_without_a_label_neither_vote_nor_count():
    (bank, classes), (queries, truth) = clusters(30), clusters(20)
    expected = knn_accuracy(bank[10:], classes[10:], queries[5:], truth[5:], 5, 0.1)
    classes[:10], truth[:5] = -1, -1
    assert knn_accuracy(bank, classes, queries, truth, 5, 0.1) == expected
    with pytest.raises(ValueError, match="labeled rows"):
        knn_accuracy(bank, classes, queries, torch.full((20,), -1))


def test_no_image_to_evaluate(encoder):
    with pytest.raises(DataError, match="no image to evaluate"):
        extract_features(encoder, [])
