"""The same figures through the `evaluate` library, offline."""

import evaluate
import numpy as np
import pytest
import torch

from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import HFContrastError
from hfcontrast.evaluation.knn import knn_accuracy
from hfcontrast.evaluation.linear_probe import linear_accuracy
from hfcontrast.evaluation.metrics import (
    EvaluatorMetric,
    RetrievalEvaluator,
    RetrievalRecall,
    ZeroShotAccuracy,
    ZeroShotEvaluator,
    evaluator,
)
from hfcontrast.evaluation.retrieval import retrieval_recall, retrieve_rows
from hfcontrast.evaluation.zero_shot import class_embeddings, classify_rows, mean_class_accuracy, zero_shot_accuracy
from hfcontrast.nn.collapse import feature_std
from tests.evaluation.conftest import COLORS, colored, tiny_clip, tiny_processor


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Metrics keep what is added in files of a common folder."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path))


@pytest.mark.parametrize("in_memory", [True, False])
def test_zero_shot_accuracy_in_batches(in_memory, tmp_path):
    images, classes, labels = torch.randn(50, 6), torch.randn(9, 6), torch.randint(-1, 9, (50,))
    expected = zero_shot_accuracy(images, classes, labels, (1, 3))
    expected["mean_per_class"] = mean_class_accuracy(images, classes, labels)
    options = {"keep_in_memory": True} if in_memory else {"cache_dir": str(tmp_path), "experiment_id": "mine"}
    metric = ZeroShotAccuracy(classes, (1, 3), **options)
    for start in range(0, 50, 20):
        part = slice(start, start + 20)
        metric.add_batch(predictions=images[part].numpy(), references=labels[part].numpy())
    assert metric.compute() == pytest.approx(expected)
    assert metric.compute(predictions=images.tolist(), references=labels.tolist()) == pytest.approx(expected)
    metric.add(prediction=images[0].tolist(), reference=0)
    assert metric.compute()["top3"] in (0.0, 1.0)


def test_retrieval_recall_with_several_captions_an_image():
    images, counts = torch.randn(30, 8), [1 + n % 4 for n in range(29)] + [0]
    owners = torch.arange(30).repeat_interleave(torch.tensor(counts))
    texts = 0.8 * images[owners] + torch.randn(len(owners), 8)
    metric = RetrievalRecall((1, 5), keep_in_memory=True)
    several = [part.numpy() for part in texts.split(counts)]
    for start in (0, 13, 26):
        stop = start + 13
        metric.add_batch(predictions=images[start:stop].numpy(), references=several[start:stop])
    found = metric.compute()
    assert found == pytest.approx(retrieval_recall(images, texts, owners, (1, 5))) and 0 < found["image_to_text_r1"] < 1


def test_metrics_go_together_with_others():
    images, labels = torch.eye(4), torch.tensor([0, 1, 2, 3])
    first, second = (ZeroShotAccuracy(classes, (1,)) for classes in (torch.eye(4), torch.eye(4).roll(1, 0)))
    together = evaluate.combine({"right": first, "wrong": second}, force_prefix=True)
    together.add_batch(predictions=images.numpy(), references=labels.numpy())
    found = together.compute()
    assert found["right_top1"] == 1.0 and found["wrong_top1"] == 0.0


def test_evaluators_take_model_processor_and_data():
    model, processor, data = tiny_clip(), tiny_processor(), colored(22, broken=(5,))
    names = [name.replace("_", " ") for name in COLORS]
    found = ZeroShotEvaluator().compute(model, processor, data, class_names=names, batch_size=5)
    assert found == pytest.approx(classify_rows(model, processor, data, class_names=names))
    found = evaluator("image-text-retrieval").compute(model, processor, data, caption_column="captions", batch_size=5)
    assert found == pytest.approx(retrieve_rows(model, processor, data, caption_column="captions"))


def test_a_metric_of_ones_own():
    model, processor, data = tiny_clip(), tiny_processor(), colored(8)

    class Width(evaluate.Metric):
        def _info(self):
            return RetrievalRecall._info(self)

        def _compute(self, predictions, references):
            return {"width": np.array(predictions).shape[1], "captions": [len(several) for several in references]}

    found = RetrievalEvaluator().compute(model, processor, data, caption_column="captions", metric=Width())
    assert found == {"width": 24, "captions": [1, 2, 3, 1, 2, 3, 1, 2]}
    weights = class_embeddings(model, processor, list(COLORS))
    metric = ZeroShotAccuracy(weights, (2,), keep_in_memory=True)
    found = evaluator("zero-shot-image-classification").compute(model, processor, data, metric=metric)
    assert set(found) == {"top2", "mean_per_class"}


def test_what_cannot_be_evaluated_is_reported():
    vit = build_encoder(backbone_config({"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1}, [32]))
    for task in ("zero-shot-image-classification", "image-text-retrieval"):
        with pytest.raises(HFContrastError, match="no text tower"):
            evaluator(task).compute(vit, tiny_processor(), colored(4))
    with pytest.raises(ValueError, match="no evaluator for 'classification'; there are zero-shot"):
        evaluator("classification")


def test_every_evaluator_of_features_is_a_metric_of_one_form():
    train, labels = torch.randn(40, 6), torch.arange(40) % 4
    test, truth = torch.randn(20, 6) + train[:20], torch.arange(20) % 4
    given = {"predictions": test.numpy(), "references": truth.numpy()}

    def figures(name, **options):
        return EvaluatorMetric(name, (train, labels), keep_in_memory=True, **options).compute(**given)

    assert figures("knn", settings={"k": 3}) == {"accuracy": knn_accuracy(train, labels, test, truth, 3)}
    assert figures("linear") == {"accuracy": linear_accuracy(train, labels, test, truth)}
    assert figures("features")["std"] == pytest.approx(feature_std(test))
    assert "kNN accuracy (share)" in EvaluatorMetric("knn", (train, labels)).description
    with pytest.raises(ValueError, match="finetune needs an encoder and its images: evaluator"):
        EvaluatorMetric("finetune")
    with pytest.raises(ValueError, match="knn needs train="):
        EvaluatorMetric("knn")


def test_every_evaluator_computes_in_the_manner_of_evaluate():
    model, processor, data = tiny_clip(), tiny_processor(), colored(24)
    columns = {"label_column": "label", "batch_size": 7}
    found = evaluator("knn").compute(model, processor, data, train=colored(40), settings={"k": 3}, **columns)
    assert found.keys() == {"accuracy"} and 0 <= found["accuracy"] <= 1
    names = list(COLORS)
    found = evaluator("zero-shot").compute(model, processor, data, settings={"classes": names}, **columns)
    assert found == pytest.approx(classify_rows(model, processor, data, class_names=names))
    found = evaluator("retrieval").compute(model, processor, data, caption_column="captions")
    assert found == pytest.approx(retrieve_rows(model, processor, data, caption_column="captions"))
    with pytest.raises(HFContrastError, match="has no train rows, which knn needs"):
        evaluator("knn").compute(model, processor, data, **columns)
