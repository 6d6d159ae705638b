"""Image classification by transformers' ``Trainer``, and by the example script where a copy of it is given."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from client_scripts import run_script
from transformers import AutoModel, AutoModelForImageClassification, Trainer, TrainingArguments

pytestmark = pytest.mark.slow

KINDS = ["vit", "resnet", "timm", "small_resnet"]
ACCURACY = """
import datasets
import evaluate

class Accuracy(evaluate.Metric):
    def _info(self):
        columns = {name: datasets.Value("int32") for name in ("predictions", "references")}
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=datasets.Features(columns))

    def _compute(self, predictions, references):
        return {"accuracy": sum(p == r for p, r in zip(predictions, references)) / len(references)}
"""  # evaluate.load("accuracy") takes it from the working folder in place of the Hub


def classifier(folder: Path):
    return AutoModelForImageClassification.from_pretrained(folder, num_labels=2, trust_remote_code=True)


@pytest.mark.parametrize("kind", KINDS)
def test_trainer_fine_tunes_an_export(kind, export, tmp_path):
    made = export(kind)
    model = classifier(made.folder)
    published = AutoModel.from_pretrained(made.folder, trust_remote_code=True).state_dict()
    prefix = f"{model.base_model_prefix}."
    published, values = (
        {name.removeprefix(prefix): value for name, value in state.items()} for state in (published, model.state_dict())
    )
    assert set(published) - set(values) <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert len(set(published) & set(values)) > 10
    assert all(torch.equal(values[name], published[name]) for name in set(published) & set(values))
    start = {name: value.clone() for name, value in model.named_parameters()}
    random = np.random.default_rng(0)
    rows = [
        {
            "pixel_values": torch.tensor(random.normal(2 * (i % 2) - 1, 1, (3, 32, 32)), dtype=torch.float32),
            "labels": i % 2,
        }
        for i in range(16)
    ]
    arguments = TrainingArguments(
        tmp_path / "run",
        max_steps=12,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        logging_steps=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(-1) == found.label_ids).mean()},
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.isfinite(losses).all() and np.mean(losses[-3:]) < np.mean(losses[:3])
    assert all(not torch.equal(value, start[name]) for name, value in model.named_parameters() if "classifier" in name)
    assert sum(not torch.equal(value, start[name]) for name, value in model.named_parameters()) > len(start) / 2
    assert 0 <= trainer.evaluate()["eval_accuracy"] <= 1
    trainer.save_model(tmp_path / "tuned")
    again = classifier(tmp_path / "tuned").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(made.pixels).logits, model.eval()(made.pixels).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_script_fine_tunes_an_export(kind, export, lines, tmp_path):
    examples = os.environ.get("HFCONTRAST_TRANSFORMERS_EXAMPLES")
    if not examples:
        pytest.skip("HFCONTRAST_TRANSFORMERS_EXAMPLES is not set: examples/pytorch of a copy of transformers")
    (tmp_path / "accuracy").mkdir()
    (tmp_path / "accuracy" / "accuracy.py").write_text(ACCURACY)
    short = [
        "--num_train_epochs",
        "1",
        "--per_device_train_batch_size",
        "8",
        "--use_cpu",
        "True",
        "--report_to",
        "none",
    ]
    code = ["--trust_remote_code", "True"] * (kind == "small_resnet")
    block = lines("Fine-tune with transformers", "bash", export(kind).folder)
    run_script(block, Path(examples, "image-classification"), *short, *code)
    found = json.loads((tmp_path / "finetuned" / "all_results.json").read_text())
    assert np.isfinite(found["train_loss"]) and 0 <= found["eval_accuracy"] <= 1
    tuned = AutoModelForImageClassification.from_pretrained(tmp_path / "finetuned", trust_remote_code=True)
    assert tuned.config.id2label == {0: "bright", 1: "dark"}
