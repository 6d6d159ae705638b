"""Methods in transformers' Trainer: equal to the bit to our own loop, resumed too, and what the callback refuses."""

from types import SimpleNamespace

import pytest
import torch
from small_loops import BATCH, SEED, STEPS, Rows, assert_equal, assert_moved, in_our_loop, optimizer_of, small
from transformers import Trainer, TrainerState, TrainingArguments

from hfcontrast.errors import ArgumentError, LauncherError
from hfcontrast.integrations import MethodCallback
from hfcontrast.integrations.trainer import check_engine
from hfcontrast.training.engines import new_states


class InOrder(Trainer):
    """A Trainer that takes the rows in their order."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer_of(method, name, folder, accumulation=1, callback=True, **arguments):
    optimizer = optimizer_of(method)
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": accumulation,
        "max_grad_norm": 0,
        "remove_unused_columns": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "seed": SEED,
    }
    return InOrder(
        model=method,
        args=TrainingArguments(str(folder), **(settings | arguments)),
        train_dataset=Rows(name),
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
        callbacks=[MethodCallback()] if callback else None,
    )


@pytest.mark.parametrize(
    "name, accumulation",
    [("dino", 1), ("byol", 1), ("moco_v2", 2), ("instdisc", 2), ("swav", 1), ("swav", 2), ("mae", 1)],
)
def test_it_is_our_loop_to_the_bit(name, accumulation, tmp_path):
    expected, losses = in_our_loop(name, accumulation)
    method = small(name)
    trainer = trainer_of(method, name, tmp_path, accumulation)
    trainer.train()
    assert_equal(method, expected)
    assert_moved(method, name)
    logged = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert logged == pytest.approx(losses, rel=1e-6)
    assert trainer.train_dataset.epochs and sorted(trainer.train_dataset.epochs) == trainer.train_dataset.epochs


def test_precision_is_that_of_our_loop(tmp_path):
    expected, _ = in_our_loop("moco_v2", 1, "bf16")
    method = small("moco_v2")
    trainer_of(method, "moco_v2", tmp_path, bf16=True).train()
    assert_equal(method, expected)


def test_a_resumed_training_is_one_that_was_not_stopped(tmp_path):
    """Saved after step 7, which is in the middle of an epoch: teacher, center, schedules and epochs go on from there."""
    expected, _ = in_our_loop("dino")
    saved = {"save_strategy": "steps", "save_steps": 7}
    trainer_of(small("dino"), "dino", tmp_path, **saved).train()
    trainer = trainer_of(small("dino"), "dino", tmp_path, **saved)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-7"))
    assert_equal(trainer.model, expected)
    assert trainer.train_dataset.epochs[-1] == 1


def test_metrics_are_logged_beside_the_loss(tmp_path):
    trainer = trainer_of(small("moco_v2"), "moco_v2", tmp_path, accumulation=2, max_steps=4, logging_steps=2)
    trainer.train()
    logged = [record for record in trainer.state.log_history if "loss" in record]
    assert len(logged) == 2 and all(-1 <= record["positive_similarity"] <= 1 for record in logged)


def test_two_processes_are_one(on_processes, monkeypatch, tmp_path):
    """Batch statistics and the queue are those of both; each reads every other micro-batch."""

    def train(rank):
        new_states()
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 0}
        for key, value in place.items():
            monkeypatch.setenv(key, str(value))
        method = small("moco_v2")
        settings = {
            "per_device_train_batch_size": BATCH // 2,
            "ddp_backend": "gloo",
            "max_steps": 6,
            "accelerator_config": {"split_batches": False},
        }
        trainer = trainer_of(method, "moco_v2", tmp_path / "two", **settings)
        trainer.train()
        return {name: value.clone() for name, value in method.state_dict().items()}

    first, second = on_processes(train)
    alone = small("moco_v2")
    trainer_of(alone, "moco_v2", tmp_path / "one", max_steps=6).train()
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(
            first[name], value, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_other_models_and_engines_are_refused(tmp_path):
    linear = torch.nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match="the Trainer's model is Linear, expected a method"):
        Trainer(linear, TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]), callbacks=[MethodCallback()])
    with pytest.raises(
        ArgumentError, match="label_smoothing_factor is 0.1, with which the Trainer takes the labels out"
    ):
        trainer_of(small("byol"), "byol", tmp_path, label_smoothing_factor=0.1)
    for told, words in (
        (SimpleNamespace(deepspeed=None, fsdp=["full_shard"], n_gpu=1), "FSDP"),
        (SimpleNamespace(deepspeed=None, fsdp=[], n_gpu=2), "2 copies"),
    ):
        with pytest.raises(LauncherError, match=words):
            check_engine(told)


def test_a_second_callback_is_refused(tmp_path):
    """Each would take every step; what listens since a training that was interrupted is no second one."""
    trainer = trainer_of(small("moco_v2"), "moco_v2", tmp_path, max_steps=1)
    interrupted = MethodCallback()
    interrupted.on_train_begin(trainer.args, TrainerState(), trainer.control, trainer.model)
    trainer.train()
    assert not trainer.model._forward_hooks
    for second in (MethodCallback(), trainer.pop_callback(MethodCallback)):
        trainer.add_callback(second)
        trainer.add_callback(second)
        with pytest.raises(ArgumentError, match="the Trainer has more than one MethodCallback"):
            trainer.train()


def test_a_method_that_moves_warns_once_in_a_loop_that_takes_no_steps(tmp_path):
    with pytest.warns(UserWarning, match="DINO was called 3 times in training mode, and no step has begun") as caught:
        trainer_of(small("dino"), "dino", tmp_path, callback=False, max_steps=5).train()
    assert sum("no step has begun" in str(warning.message) for warning in caught) == 1
