"""The linear probe against scikit-learn and autograd, and its protocol."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from hfcontrast.evaluation import logistic_regression
from hfcontrast.evaluation.linear_probe import choose_strength, fit, linear_accuracy, loss_and_gradient


def rows(count, classes=4, width=12, noise=1.5, seed=0):
    """Overlapping classes; dimensions are correlated, of very different sizes and far from zero."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    features = torch.eye(classes, width)[labels] * 2 + noise * torch.randn(count, width, generator=generator)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(9))
    return features @ mix * torch.logspace(-3, 3, width) + 5, labels


def standardized(features):
    return (features - features.mean(0)) / features.std(0, correction=0)


def sklearn_fit(features, labels, strength):
    model = LogisticRegression(C=1 / (strength * len(features)), tol=1e-7, max_iter=2000)
    return model.fit(features.double().numpy(), labels.numpy())


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
def test_a_fit_is_that_of_scikit_learn(strength):
    features, labels = rows(300)
    features = standardized(features)
    weights = fit(features, labels, features.T @ features / 300, strength, torch.zeros(4, 13))
    expected = sklearn_fit(features, labels, strength)
    expected = torch.tensor(np.c_[expected.coef_, expected.intercept_]).float()
    found, best = (float(loss_and_gradient(w, features, labels, strength)[0]) for w in (weights, expected))
    assert found == pytest.approx(best, rel=1e-4)
    slopes = weights[:, :-1]  # biases may differ by a constant
    torch.testing.assert_close(slopes, expected[:, :-1], rtol=0.02, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("held", [1 << 24, 64])
def test_loss_and_gradient_are_those_of_autograd_in_parts_too(held, monkeypatch):
    monkeypatch.setattr(logistic_regression, "_LOGITS", held)
    features, labels = rows(50)
    features = standardized(features)
    weights = torch.randn(4, 13, requires_grad=True)
    loss = F.cross_entropy(F.linear(features, weights[:, :-1], weights[:, -1]), labels)
    loss = loss + 0.3 / 2 * weights[:, :-1].square().sum()
    loss.backward()
    found, gradient = loss_and_gradient(weights.detach(), features, labels, 0.3)
    assert float(found) == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(gradient, weights.grad)


def test_the_whole_protocol_with_scikit_learn():
    (bank, labels), (queries, truth) = rows(400), rows(300, seed=1)
    mean, std = bank.mean(0), bank.std(0, correction=0)
    bank_, queries_ = (bank - mean) / std, (queries - mean) / std
    held_out = np.lexsort((np.arange(400), labels.numpy()))[4::5]
    kept = np.setdiff1d(np.arange(400), held_out)
    scores = {}
    for strength in (1.0, 1e-2, 1e-4):
        model = sklearn_fit(bank_[kept], labels[kept], strength)
        scores[strength] = model.score(bank_[held_out].numpy(), labels[held_out].numpy())
    best = max(scores, key=scores.get)  # of equal ones the first, which is the largest
    expected = sklearn_fit(bank_, labels, best).score(queries_.numpy(), truth.numpy())
    assert 0.5 < expected < 0.95
    found = linear_accuracy(bank, labels, queries, truth, (1.0, 1e-2, 1e-4))
    assert found == pytest.approx(expected, abs=0.005)


def test_the_penalty_is_strong_where_noise_could_be_learned_and_weak_where_it_would_hide_the_classes():
    labels = torch.arange(320) % 8
    noisy = torch.randn(320, 600)
    noisy[:, :8] += 1.5 * F.one_hot(labels, 8)
    beads = labels[:, None] + 0.1 * torch.randn(320, 2)  # on a line: those in the middle need steep slopes
    chosen = {}
    for name, features in {"noisy": standardized(noisy), "beads": standardized(beads)}.items():
        chosen[name] = choose_strength(features, labels, features.T @ features / 320, 8)[0]
    assert chosen["noisy"] >= 10 * chosen["beads"]


def test_more_dimensions_than_rows():
    bank, labels = torch.randn(40, 1, 50).expand(-1, 20, -1).reshape(40, 1000), torch.arange(40) % 2
    bank = bank + labels[:, None]  # many equal dimensions: no Hessian has a factor without its penalty
    assert linear_accuracy(bank, labels, bank, labels) == 1.0


def test_features_that_are_no_numbers_do_not_stop_a_run():
    (bank, labels), (queries, truth) = rows(60), rows(30, seed=1)
    expected = linear_accuracy(bank, labels, queries, truth)
    broken = torch.full((60, 1), 2.0)
    broken[7], broken[9] = float("nan"), float("inf")
    found = linear_accuracy(torch.cat([bank, broken], 1), labels, torch.cat([queries, torch.ones(30, 1)], 1), truth)
    assert found == pytest.approx(expected, abs=0.04)


def test_strengths_are_chosen_by_rows_that_are_not_fitted(monkeypatch):
    fitted = []
    monkeypatch.setattr(
        logistic_regression, "fit", lambda features, *rest: fitted.append(len(features)) or fit(features, *rest)
    )
    (bank, labels), (queries, truth) = rows(100), rows(50, seed=1)
    linear_accuracy(bank, labels, queries, truth)
    assert set(fitted[:-1]) == {80} and fitted[-1] == 100


def test_scale_offset_and_order_of_classes_do_not_matter():
    (bank, labels), (queries, truth) = rows(200), rows(100, seed=1)
    expected = linear_accuracy(bank, labels, queries, truth)
    assert linear_accuracy(bank, labels, queries, truth) == expected
    assert linear_accuracy(bank * 100 - 7, labels * 3 + 2, queries * 100 - 7, truth * 3 + 2) == pytest.approx(
        expected, abs=0.02
    )


def test_rows_without_a_label_are_left_out():
    (bank, labels), (queries, truth) = rows(200), rows(100, seed=1)
    expected = linear_accuracy(bank[50:], labels[50:], queries[20:], truth[20:])
    labels[:50], truth[:20] = -1, -1
    bank[:50] = float("nan")
    assert linear_accuracy(bank, labels, queries, truth) == expected
    with pytest.raises(ValueError, match="labeled rows: there are 150 train rows and 0 test rows"):
        linear_accuracy(bank, labels, queries, torch.full((100,), -1))


def test_a_class_that_the_bank_does_not_have_is_wrong():
    bank, labels = rows(200, noise=0.01)
    assert linear_accuracy(bank, labels, bank, labels) == 1.0
    unknown = torch.where(labels == 2, 17, labels)
    assert linear_accuracy(bank, labels, bank, unknown) == pytest.approx(float((labels != 2).float().mean()))


def test_features_that_say_nothing_give_a_class_of_the_bank():
    labels = torch.arange(40) % 4
    assert linear_accuracy(torch.full((40, 8), 3.3), labels, torch.full((40, 8), 3.3), labels) == 0.25
    dead = torch.cat([rows(40)[0], torch.full((40, 3), 1e6)], dim=1)
    assert 0 <= linear_accuracy(dead, labels, dead, labels) <= 1


@pytest.mark.parametrize("count", [1, 3, 6])
def test_very_small_banks(count):
    bank, labels = torch.eye(6)[:count] * 4, torch.arange(count)
    assert linear_accuracy(bank, labels, bank, labels) == 1.0


def test_the_features_are_left_as_they_are():
    (bank, labels), (queries, truth) = rows(60), rows(30, seed=1)
    before = bank.clone(), queries.clone()
    linear_accuracy(bank, labels, queries, truth)
    assert torch.equal(bank, before[0]) and torch.equal(queries, before[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    (bank, labels), (queries, truth) = rows(400), rows(300, seed=1)
    expected = linear_accuracy(bank, labels, queries, truth)
    assert linear_accuracy(bank.cuda(), labels.cuda(), queries.cuda(), truth.cuda()) == pytest.approx(
        expected, abs=0.01
    )
