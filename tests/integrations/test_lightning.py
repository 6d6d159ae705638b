"""Methods in Lightning: equal to the bit to our own loop, resumed too; the views of a dataset; what is refused."""

from dataclasses import replace

import pytest
import torch
from small_loops import BATCH, SEED, STEPS, Rows, assert_equal, assert_moved, in_our_loop, optimizer_of, small
from torch.utils.data import DataLoader

pytest.importorskip("lightning")
from lightning.pytorch import Callback, Trainer  # noqa: E402

from hfcontrast.data import ViewDataset  # noqa: E402
from hfcontrast.errors import ArgumentError, TrainingError  # noqa: E402
from hfcontrast.integrations import LightningMethod  # noqa: E402
from hfcontrast.methods.simclr import SimCLR  # noqa: E402


def trainer_of(folder, accumulation=1, **settings):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    quiet |= {"max_steps": STEPS, "accelerator": "cpu", "devices": 1, "default_root_dir": folder}
    return Trainer(accumulate_grad_batches=accumulation, **quiet | settings)


def model_of(name):
    return LightningMethod(small(name), optimizer_of, seed=SEED)


def loader_of(name):
    return DataLoader(Rows(name), batch_size=BATCH)


@pytest.mark.parametrize(
    "name, accumulation",
    [("dino", 1), ("byol", 1), ("moco_v2", 2), ("instdisc", 2), ("swav", 1), ("swav", 2), ("mae", 1)],
)
def test_it_is_our_loop_to_the_bit(name, accumulation, tmp_path):
    expected, losses = in_our_loop(name, accumulation)
    model, loader = model_of(name), loader_of(name)
    trainer = trainer_of(tmp_path, accumulation)
    trainer.fit(model, loader)
    assert_equal(model.method, expected)
    assert_moved(model.method, name)
    assert set(loader.dataset.epochs) == set(range(STEPS * accumulation // len(loader)))
    if accumulation == 1:
        assert float(trainer.callback_metrics["loss"]) == pytest.approx(losses[-1], rel=1e-6)


def test_what_outlives_a_step_is_in_full_precision(tmp_path):
    """As in our loop; torch's autocast is entered elsewhere, so that steps are equal to its rounding only."""
    expected, _ = in_our_loop("moco_v2", 1, "bf16")
    model = model_of("moco_v2")
    trainer_of(tmp_path, precision="bf16-mixed").fit(model, loader_of("moco_v2"))
    assert model.method.queue.rows.dtype == torch.float32 and model.method.queue.filled == expected.queue.filled
    assert (model.method.queue.rows * expected.queue.rows).sum(dim=1).mean() > 0.5


def test_metrics_are_logged(tmp_path):
    trainer = trainer_of(tmp_path, max_steps=2)
    trainer.fit(model_of("moco_v2"), loader_of("moco_v2"))
    assert -1 <= float(trainer.callback_metrics["positive_similarity"]) <= 1


class SaveOnce(Callback):
    """Saves a checkpoint after so many steps."""

    def __init__(self, path, step):
        self.path, self.step = str(path), step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_resumed_training_is_one_that_was_not_stopped(tmp_path):
    """The same batch in all steps: which one Lightning begins with is not what is looked at."""
    whole, resumed, saves = model_of("dino"), model_of("dino"), SaveOnce(tmp_path / "step_7.ckpt", 7)
    rows = torch.utils.data.Subset(Rows("dino"), range(BATCH))
    trainer_of(tmp_path, callbacks=[saves]).fit(whole, DataLoader(rows, batch_size=BATCH))
    trainer = trainer_of(tmp_path)
    trainer.fit(resumed, DataLoader(rows, batch_size=BATCH), ckpt_path=saves.path)
    assert trainer.global_step == STEPS
    assert_equal(resumed.method, whole.method)


def test_views_of_a_dataset_are_those_of_the_epoch(tmp_path):
    """Two epochs on images, with a worker: each batch has the views that a run has of its rows then."""
    seen = []

    class Watched(LightningMethod):
        def training_step(self, batch, batch_idx):
            seen.append((self.trainer.current_epoch, batch["index"], batch["pixel_values"]))
            return super().training_step(batch, batch_idx)

    views = ViewDataset("builtin/shapes", [replace(view, size=32) for view in SimCLR.views], seed=1)
    rows = torch.utils.data.Subset(views, range(8))
    rows.set_epoch = views.set_epoch  # a subset has none of its own
    method = SimCLR(SimCLR.config_class(backbone_config={"model_type": "small_resnet"}, projection_dim=8, hidden_dim=8))
    model = Watched(method, optimizer_of)
    trainer_of(tmp_path, max_steps=-1, max_epochs=2).fit(model, DataLoader(rows, batch_size=4, num_workers=1))
    assert [epoch for epoch, *_ in seen] == [0, 0, 1, 1]
    for epoch, index, pixels in seen:
        views.set_epoch(epoch)
        assert torch.equal(pixels[0], views[int(index[0])]["pixel_values"])


def test_what_cannot_be_trained_is_said(tmp_path):
    with pytest.raises(ArgumentError, match="expected a method of hfcontrast, got Linear"):
        LightningMethod(torch.nn.Linear(2, 2))
    method = small("byol")
    with pytest.raises(ArgumentError, match="optimizer is AdamW, expected a function that makes one of the method"):
        LightningMethod(method, optimizer_of(method))
    with pytest.raises(ArgumentError, match="the batch is a tuple, expected a dict of the entries that BYOL takes"):
        LightningMethod(method, optimizer_of).training_step((torch.zeros(2, 2, 3, 32, 32), torch.zeros(2)), 0)
    with pytest.raises(ArgumentError, match="has no optimizer: give one"):
        trainer_of(tmp_path).fit(LightningMethod(small("byol")), loader_of("byol"))
    with pytest.raises(TrainingError, match="need the length of the training"):
        trainer_of(tmp_path, max_steps=-1, max_epochs=-1).fit(model_of("byol"), loader_of("byol"))
