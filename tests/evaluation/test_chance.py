"""Chance, and what is said where a baseline scores above the trained encoder."""

from itertools import combinations

import pytest
import torch

from hfcontrast.commands.evaluate_model import chance_remarks, print_report
from hfcontrast.evaluation.chance import of_classes, of_retrieval
from hfcontrast.evaluation.feature_rows import FeatureRows
from hfcontrast.evaluation.online import OnlineEvaluation, Task
from hfcontrast.evaluation.recall import retrieval_recall
from hfcontrast.evaluation.registry import get_evaluator
from hfcontrast.evaluation.verdict import baselines_above, told_answers, told_baselines_above
from tests.evaluation.conftest import tiny_clip


def test_chance_is_the_class_that_most_test_images_have():
    labels = torch.tensor([0, 0, 0, 1, 2, 2, -1])
    assert of_classes(labels, str).value == 0.5 and of_classes(labels, str).answer == "0"
    assert of_classes(labels, str, top=2).value == pytest.approx(5 / 6)
    equal = of_classes(torch.tensor([3, 4, 3, 4]), str)
    assert (equal.value, equal.answer) == (0.5, None)
    assert of_classes(torch.tensor([-1]), str) is None


def test_chance_of_recall_is_that_of_all_orders():
    """Images 0 and 1 have two captions and one, of five texts: the orders are counted one by one."""
    owners, texts = {0: {0, 1}, 1: {2}}, range(5)
    first = list(combinations(texts, 2))  # which two of the texts are the first
    by_hand = sum(sum(bool(own & set(two)) for two in first) / len(first) for own in owners.values()) / 2
    found = of_retrieval(3, 5, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), (1, 2))
    assert found["image_to_text_r2"].value == pytest.approx(by_hand)
    assert found["text_to_image_r1"].value == pytest.approx(1 / 3)
    same = torch.ones(3, 4), torch.ones(5, 4), torch.tensor([0, 0, 1, -1, -1])
    collapsed = retrieval_recall(*same, ks=(1, 2))
    assert all(chance.value == pytest.approx(collapsed[name]) for name, chance in found.items())


def test_evaluators_give_chance_of_their_rows():
    labels = torch.tensor([0] * 30 + [1] * 10)
    features = torch.eye(2)[labels] + 0.1 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    rows = FeatureRows((features, labels), (features, labels))
    tasks = {name: get_evaluator(name) for name in ("knn", "linear", "features")}
    online = OnlineEvaluation(rows, {name: Task(one, one.settings_class()) for name, one in tasks.items()})
    scores = online(tiny_clip(), thorough=True)
    assert online.chance == {"knn_accuracy": 0.75, "linear_accuracy": 0.75} and scores["knn_accuracy"] > 0.9
    assert online.answers == {"knn_accuracy": "0", "linear_accuracy": "0"}
    told = told_answers(online.answers, {"knn_accuracy": "kNN accuracy"})
    assert told == "Chance: always the most frequent class, '0'."
    several = {"knn_accuracy": "kNN accuracy", "zero_shot_label": "zero-shot label"}  # of which one has equal classes
    assert told_answers(online.answers, several) == "Chance: always the most frequent class, '0' (kNN accuracy)."


def test_chance_does_not_depend_on_the_classes_of_the_train_images():
    labels = torch.tensor([0] * 7 + [1] * 3)
    rows = FeatureRows((torch.randn(6, 2), torch.tensor([1, 1, 1, 2, 2, 2])), (torch.randn(10, 2), labels))
    knn = get_evaluator("knn")
    online = OnlineEvaluation(rows, {"knn": Task(knn, knn.settings_class())})
    online(tiny_clip())
    assert online.chance == {"knn_accuracy": pytest.approx(0.7)} and online.answers == {"knn_accuracy": "0"}
    assert online.counts["unknown_class_test_images"] == 7


def test_no_baseline_above_the_trained_encoder_is_without_a_sentence():
    scores = {
        "chance": {"knn_accuracy": 0.1, "linear_accuracy": 0.1},
        "raw_pixels": {"knn_accuracy": 0.5, "linear_accuracy": 0.6},
        "untrained": {"knn_accuracy": 0.45, "linear_accuracy": 0.7, "feature_std": 0.9, "effective_rank": 9.0},
        "trained": {"knn_accuracy": 0.4, "linear_accuracy": 0.65, "feature_std": 0.5, "effective_rank": 5.0},
    }
    assert [(one.baseline, one.key) for one in baselines_above(scores)] == [
        ("raw_pixels", "knn_accuracy"),
        ("untrained", "knn_accuracy"),
        ("untrained", "linear_accuracy"),
    ]
    assert told_baselines_above(scores) == [
        "The baseline of raw pixels scores above the trained encoder: kNN accuracy 50.0 % against 40.0 %.",
        "The untrained encoder scores above the trained encoder: kNN accuracy 45.0 % against 40.0 %; "
        "linear probe 70.0 % against 65.0 %.",
    ]
    scores["trained"] = {"knn_accuracy": 0.49999, "linear_accuracy": 0.7}  # what reads alike is not above
    assert not told_baselines_above(scores)
    assert not told_baselines_above({"trained": scores["trained"]}) and not told_baselines_above({})


def test_a_model_below_chance_is_said(capsys):
    chance = {"knn": {"accuracy": {"value": 0.5, "answer": "cat"}}}
    report = {"model": "m", "test": "data (split test)", "scores": {"knn": {"accuracy": 0.4, "k": 5}}, "chance": chance}
    assert chance_remarks(report) == [
        "Chance: always the most frequent class, 'cat'.",
        "Chance scores above the model: knn accuracy 50.0 % against 40.0 %.",
    ]
    print_report(report)
    out = capsys.readouterr().out
    assert "chance" in out and "Chance scores above the model" in out
    print_report(report | {"chance": {}})
