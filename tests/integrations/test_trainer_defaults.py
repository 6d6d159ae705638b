"""transformers' Trainer with its defaults: columns, evaluation, the best model, and accumulated gradients."""

import pytest
import torch
from datasets import Dataset
from small_loops import DINO
from transformers import Trainer, TrainingArguments

from hfcontrast.methods.registry import get_method
from hfcontrast.testing import build, random_batch

ROWS, BATCH = 16, 4


class InOrder(Trainer):
    """A Trainer that takes the rows in their order."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def rows_of(name, **columns):
    batch = random_batch(get_method(name), ROWS)
    if name == "dino":
        batch["pixel_values"] = batch["pixel_values"][:, :, :, :16, :16]
    data = {key: value.numpy() for key, value in batch.items()} | {"caption": ["a"] * ROWS, **columns}
    return Dataset.from_dict(data).with_format("torch")


def trainer_of(method, name, folder, **arguments):
    settings = {
        "max_steps": 2,
        "per_device_train_batch_size": BATCH,
        "report_to": [],
        "use_cpu": True,
        "logging_steps": 1,
    }
    args = TrainingArguments(str(folder), **{**settings, "disable_tqdm": True, **arguments})
    rows = rows_of(name)
    return InOrder(method, args, train_dataset=rows, eval_dataset=rows)


@pytest.mark.parametrize(
    "name, options", [("supcon", {"hidden_dim": 16}), ("dino", DINO), ("instdisc", {"negatives": 8})]
)
def test_columns_stay_the_loss_is_evaluated_and_the_best_model_loaded(name, options, tmp_path):
    method = build(get_method(name), **options)
    each = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = trainer_of(method, name, tmp_path, load_best_model_at_end=True, **each)
    trainer.train()
    losses = {record["step"]: record["eval_loss"] for record in trainer.state.log_history if "eval_loss" in record}
    assert len(losses) == 2 and trainer.state.best_metric == min(losses.values())
    torch.manual_seed(0)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses.values()), rel=1e-3)
    best = type(method).from_pretrained(trainer.state.best_model_checkpoint)
    for key, value in best.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[key], value), key


def test_predictions_are_the_embeddings(tmp_path):
    seen = []

    def compute_metrics(found):
        seen.append(found.predictions.shape)
        return {"length": float((found.predictions**2).sum(-1).mean())}

    method = build(get_method("simclr"), projection_dim=8)
    trainer = trainer_of(method, "simclr", tmp_path)
    trainer.compute_metrics = compute_metrics
    assert trainer.evaluate()["eval_length"] == pytest.approx(1.0, rel=1e-3) and seen == [(ROWS, 2, 8)]


def test_accumulated_gradients_are_those_of_a_plain_loop(tmp_path):
    """With labels in the batch, which make a Trainer count items: the loss of a step is the mean over its micro-batches."""
    name, accumulation = "supcon", 4
    options = {
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "weight_decay": 0.0,
    }
    trainer = trainer_of(
        build(get_method(name), hidden_dim=16),
        name,
        tmp_path,
        max_steps=1,
        gradient_accumulation_steps=accumulation,
        **options,
    )
    order = trainer.train_dataset.remove_columns("caption").iter(BATCH)
    plain = build(get_method(name), hidden_dim=16)
    losses = [plain(**batch).loss for batch in order]
    (sum(losses) / accumulation).backward()
    torch.optim.SGD(plain.parameters(), lr=0.1).step()
    trainer.train()
    logged = next(record["loss"] for record in trainer.state.log_history if "loss" in record)
    assert logged == pytest.approx(sum(losses).item() / accumulation, rel=1e-3)
    for (key, value), expected in zip(trainer.model.named_parameters(), plain.parameters()):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
