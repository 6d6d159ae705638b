"""Features that are not finite leave the train images, count as wrong among the test images, and are counted; numbers stand behind figures."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hfcontrast import run_training
from hfcontrast.errors import DataError, HFContrastError, TrainingError
from hfcontrast.evaluation import features, finetune_training
from hfcontrast.evaluation.calling import call_evaluate
from hfcontrast.evaluation.feature_rows import FeatureRows
from hfcontrast.evaluation.features import RawPixels
from hfcontrast.evaluation.knn import knn_accuracy
from hfcontrast.evaluation.logistic_regression import linear_accuracy
from hfcontrast.evaluation.online import OnlineEvaluation
from hfcontrast.evaluation.protocol import LABELS, TRAIN, Evaluator, Figure, NothingToEvaluate, Scores, Task
from hfcontrast.evaluation.registry import get_evaluator
from hfcontrast.evaluation.retrieval import retrieval_recall
from hfcontrast.evaluation.zero_shot import zero_shot_accuracy
from hfcontrast.publishing import export
from hfcontrast.testing.color_rows import color_rows

NAN = float("nan")


class Nearest(Evaluator):
    """A plugin: accuracy by the nearest mean of a class."""

    name = "nearest"
    needs = frozenset({TRAIN, LABELS})
    figures = (Figure("accuracy", "nearest mean", headline=True), Figure("error", "errors", higher_is_better=False))

    def evaluate(self, encoder, rows, settings):
        train, train_labels, test, labels = rows.labeled_features(encoder)
        assert train.isfinite().all() and test.isfinite().all()
        return self.scores(train, train_labels, test, labels)

    def scores(self, train, train_labels, test, labels):
        classes = train_labels.unique()
        means = torch.stack([train[train_labels == one].mean(dim=0) for one in classes])
        right = float((classes[torch.cdist(test, means).argmin(dim=1)] == labels).float().mean())
        return Scores({"accuracy": right, "error": 1 - right})


class Apart(Nearest):
    """The same by the features of test and train images apart."""

    name = "apart"

    def evaluate(self, encoder, rows, settings):
        test, labels = rows.test_features(encoder)
        train, train_labels = rows.train_features(encoder)
        assert train.isfinite().all() and test.isfinite().all()
        return self.scores(train, train_labels, test, labels)


def separable(train=60, test=20):
    """Features of three classes that lie far apart, and their labels."""
    torch.manual_seed(0)
    labels = torch.arange(train + test) % 3
    features = 5 * torch.eye(3)[labels] + 0.1 * torch.randn(train + test, 3)
    return (features[:train], labels[:train]), (features[train:], labels[train:])


def spoilt():
    (train, train_labels), (test, labels) = separable()
    train[3], train[10, 1], test[0, 2], test[1] = NAN, float("inf"), -float("inf"), NAN
    return (train, train_labels), (test, labels)


@pytest.mark.parametrize("evaluator", [Nearest(), Apart(), get_evaluator("knn"), get_evaluator("linear")])
def test_they_are_left_out_of_the_train_features_and_wrong_among_the_test_features(evaluator):
    rows = FeatureRows(*spoilt())
    found = call_evaluate(evaluator, RawPixels(), rows, evaluator.settings_class())
    assert found.figures["accuracy"] == pytest.approx(18 / 20)
    assert found.figures.get("error", 0.1) == pytest.approx(0.1)
    told = {"nonfinite_test_images": 2, "nonfinite_train_images": 2, "test_images": 20, "train_images": 58}
    assert told.items() <= found.counts.items() and found.counts.get("k", 20) == 20
    whole = call_evaluate(evaluator, RawPixels(), FeatureRows(*separable()), evaluator.settings_class())
    assert whole.figures["accuracy"] == 1 and "nonfinite_test_images" not in whole.counts


def test_functions_of_features_do_the_same():
    (train, train_labels), (test, labels) = spoilt()
    for accuracy in (knn_accuracy, linear_accuracy):
        assert accuracy(train.clone(), train_labels, test.clone(), labels) == pytest.approx(18 / 20)
    classes = torch.eye(3)
    assert zero_shot_accuracy(test, classes, labels, (1, 2)) == {"top1": pytest.approx(0.9), "top2": pytest.approx(0.9)}
    one = zero_shot_accuracy(torch.tensor([[NAN, 0.0, 0.0]]), classes[:1], torch.tensor([0]), (1,))
    assert one == {"top1": 0}


def test_retrieval_finds_nothing_by_features_that_are_not_finite():
    images, texts, owners = torch.eye(4), torch.eye(4), torch.arange(4)
    assert retrieval_recall(images, texts, owners)["image_to_text_r1"] == 1
    images[0, 0] = NAN
    found = retrieval_recall(images, texts, owners, (1, 4))
    assert {found[f"{way}_r{k}"] for way in ("image_to_text", "text_to_image") for k in (1, 4)} == {0.75}


def test_a_class_that_only_such_images_have_stays_the_name_of_none():
    (train, train_labels), (test, labels) = separable()
    train[train_labels == 0] = NAN
    test[:1] = NAN
    rows = FeatureRows((train, train_labels), (test, labels))
    call_evaluate(Nearest(), RawPixels(), rows, Nearest.settings_class())
    assert rows.counts["nonfinite_train_images"] == 20 and rows.counts["unknown_classes"] == ["0"]


@pytest.mark.parametrize("which", [0, 1])
def test_where_no_features_are_finite_there_is_one_sentence(which):
    given = separable()
    given[which][0][:] = NAN
    with pytest.raises(
        DataError, match="features of all [26]0 images of the (train|test) rows have numbers that are NaN"
    ):
        call_evaluate(Nearest(), RawPixels(), FeatureRows(*given), Nearest.settings_class())


def test_weights_that_are_not_finite_are_refused_before_anything_is_evaluated():
    encoder = nn.Linear(2, 2)
    encoder.bias.data[0] = NAN
    with pytest.raises(HFContrastError, match="cannot be evaluated: bias of 2 tensors has numbers that are NaN"):
        call_evaluate(Nearest(), encoder, FeatureRows(*separable()), Nearest.settings_class())


def test_a_run_keeps_the_numbers_behind_its_figures_and_no_figure_that_is_none():
    few = FeatureRows(separable(train=10)[0], tuple(part[:1] for part in separable()[1]))
    tasks = {name: Task(one := get_evaluator(name), one.settings_class()) for name in ("knn", "features")}
    evaluation = OnlineEvaluation(few, tasks)
    scores = evaluation(copy.copy(RawPixels()))
    assert scores.keys() == {"knn_accuracy", "effective_rank"}  # there is no deviation of one image
    assert evaluation.numbers["knn_accuracy"] == {"train_images": 10, "test_images": 1, "k": 10}
    assert evaluation.numbers["effective_rank"] == {"test_images": 1}


def test_two_processes_count_what_one_does(monkeypatch, on_processes):
    whole = features.encode

    def encode(encoder, pixels):
        return whole(encoder, pixels).masked_fill((pixels.mean(dim=(1, 2, 3)) > limit)[:, None], NAN)

    def evaluate(_):
        encoder, rows = color_rows()
        one = get_evaluator("knn")
        found = call_evaluate(one, encoder, rows, one.settings_class(k=3))
        return found.figures, dict(found.counts), rows.counts

    encoder, rows = color_rows()
    means = torch.cat([pixels.mean(dim=(1, 2, 3)) for pixels, _ in [*rows.test(), *rows.train()]])
    limit = float(means.quantile(0.8))
    monkeypatch.setattr(features, "encode", encode)
    alone = evaluate(0)
    assert alone[1]["nonfinite_test_images"] > 0 and alone[1]["nonfinite_train_images"] > 0
    assert on_processes(evaluate) == [alone, alone]


def test_weights_that_are_not_finite_are_not_published(monkeypatch, tmp_path):
    accelerator = SimpleNamespace(get_state_dict=lambda model: {}, is_main_process=True)
    method = SimpleNamespace(export_encoder=lambda: None)
    training = SimpleNamespace(accelerator=accelerator, method=method, output=tmp_path, model=None)
    monkeypatch.setattr(export, "weights_of", lambda *_: {"head": torch.ones(2), "layer.weight": torch.tensor([NAN])})
    with pytest.raises(TrainingError, match="nothing was published: layer.weight of 2 tensors has .*optim.lr"):
        run_training.publish(training, {}, None, 1.0, "digits")
    assert not [*tmp_path.iterdir()]


def test_fine_tuning_that_ends_in_no_numbers_says_so(caplog, monkeypatch):
    monkeypatch.setattr(finetune_training, "fit", lambda *_: False)
    encoder, rows = color_rows()
    one = get_evaluator("finetune")
    found = call_evaluate(one, encoder, rows, one.settings_class(epochs=1))
    assert "ended in weights that are NaN" in caplog.text and found.counts["train_images"] > 0


def test_without_labeled_train_images_no_class_is_unknown():
    (train, train_labels), (test, labels) = separable()
    rows = FeatureRows((train, torch.full_like(train_labels, -1)), (test, labels))
    with pytest.raises(NothingToEvaluate):
        call_evaluate(Nearest(), RawPixels(), rows, Nearest.settings_class())
    assert "unknown_classes" not in rows.counts
