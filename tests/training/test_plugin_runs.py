"""Methods of other people in a run: what they take of the data, and mistakes that are told before the first step."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from torch.nn import functional as F

from hfcontrast.data import load_rows
from hfcontrast.errors import DataError
from hfcontrast.methods import registry
from hfcontrast.methods.base import Method, MethodConfig, MethodOutput
from hfcontrast.recipe import load_recipe
from hfcontrast.testing import check_method
from hfcontrast.training.loop import train
from hfcontrast.training.setup import build_training
from hfcontrast.view import View

VIT = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4}


@strict
class AskedConfig(MethodConfig):
    """Configuration of Asked."""

    model_type = "hfcontrast_asked"


class Asked(Method):
    """Predicts columns of the data."""

    config_class = AskedConfig
    views = (View(count=1, size=16),)

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(self.feature_size, 4)
        self.post_init()

    def embed(self, pixel_values):
        return {"z": self.head(self.encode(pixel_values)[:, 0])}

    def objective(self, embeddings, color, number, optional=None):
        assert optional is None
        loss = F.cross_entropy(embeddings["z"], color.long()) + (embeddings["z"].mean(1) - number).square().mean()
        return MethodOutput(loss=loss)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Forty-eight digits with two further columns, saved to disk."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    rows = load_rows("builtin/digits", split="train[:48]").dataset
    rows = rows.add_column("color", [number % 4 for number in range(48)])
    rows.add_column("shape", [number / 48 for number in range(48)]).save_to_disk(folder)
    return str(folder)


@pytest.fixture
def recipe(saved, tmp_path, monkeypatch):
    """A recipe of a method of this process."""
    for name in ("_in_process", "_claims"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())

    def make(method, **train_section):
        registry.register(method, "of-a-plugin")
        return load_recipe(
            {
                "method": {"name": "of-a-plugin"},
                "backbone": VIT,
                "data": {"path": saved, "workers": 0},
                "views": {"all": {"size": 16}},
                "train": {
                    "steps": 3,
                    "batch_size": 16,
                    "device": "cpu",
                    "log_every": 1,
                    "output": str(tmp_path / "run"),
                }
                | train_section,
                "eval": {"baselines": False},
            }
        )

    return make


class OfShapes(Asked):
    def objective(self, embeddings, color, shape):
        return super().objective(embeddings, color, shape)


@pytest.mark.parametrize("grad_cache", [None, 5])
def test_a_step_is_handed_the_columns_that_it_takes(recipe, grad_cache):
    assert OfShapes.needed_columns() == ("color", "shape")
    training = build_training(recipe(OfShapes, grad_cache=grad_cache))
    rows = training.rows.dataset
    batch = next(iter(training.loader))
    assert batch["color"].tolist() == [rows[place]["color"] for place in batch["index"].tolist()]
    train(training)


def test_a_column_that_is_not_there_is_named_with_those_that_are(recipe):
    with pytest.raises(
        DataError, match="a step of the method takes 'number', .* its columns are image, label, color, shape"
    ):
        build_training(recipe(Asked))


def test_the_contract_makes_the_columns():
    check_method(Asked, VIT, columns={"color": torch.arange(8) % 4}, learning_steps=5)
