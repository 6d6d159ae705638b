"""Methods of plugins in a run: the columns that they take, and mistakes that are reported before the first step."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from torch.nn import functional as F

from hfcontrast.data import load_rows
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import DataError, PluginError, TrainingError
from hfcontrast.methods import registry
from hfcontrast.methods.base import Method, MethodConfig, MethodOutput
from hfcontrast.methods.contract.arguments import needed_columns
from hfcontrast.methods.contract.old_names import RENAMED
from hfcontrast.recipe import load_recipe
from hfcontrast.run_visualization import write_predictions
from hfcontrast.testing import check_method
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train
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
def test_a_step_gets_the_columns_that_it_takes(recipe, grad_cache):
    assert needed_columns(OfShapes) == ("color", "shape")
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


def grows(self, outputs, progress):
    self.seen = torch.cat([self.seen, torch.ones(1)])


def follows_with_a_graph(self, outputs, progress):
    self.seen.mul_(0.9).add_(self.head.weight.sum())


def other_metrics(self, embeddings, color, shape):
    self.calls = getattr(self, "calls", 0) + 1
    loss = Asked.objective(self, embeddings, color, shape).loss
    return MethodOutput(loss=loss, metrics={f"m{self.calls % 2}": loss.detach()})


def with_buffer(self, config):
    Asked.__init__(self, config)
    self.register_buffer("seen", torch.ones(1))
    self.post_init()


@pytest.mark.parametrize(
    "body, words",
    [
        ({"after_step": grows}, r"the first step changes size or type of seen, from \(\(1,\), .* to \(\(2,\)"),
        ({"after_step": follows_with_a_graph}, "leaves seen with a graph, which grows with every step"),
        ({"objective": other_metrics}, r"the micro-batches of step 1 have different metrics, \['m1'\] and \['m0'\]"),
    ],
)
def test_what_the_first_step_shows_ends_the_run(recipe, body, words):
    method = type("Wrong", (OfShapes,), {"__init__": with_buffer, "__module__": __name__} | body)
    with pytest.raises(TrainingError, match=words):
        train(build_training(recipe(method, accumulation=2)))


def test_what_is_built_wrong_ends_the_run_before_the_first_step(recipe):
    def unfinished(self, config):
        Method.__init__(self, config)
        self.head = torch.nn.Linear(self.feature_size, 4)

    method = type("Wrong", (OfShapes,), {"__init__": unfinished, "__module__": __name__})
    with pytest.raises(PluginError, match="Wrong: its __init__ ends without self.post_init()"):
        build_training(recipe(method))


@pytest.mark.parametrize("grad_cache", [None, 5])
def test_a_wrong_output_ends_the_run(recipe, grad_cache):
    method = type("Wrong", (OfShapes,), {"objective": lambda self, embeddings, color: 3, "__module__": __name__})
    with pytest.raises(PluginError, match=r"Wrong: objective\(\) returned int, expected MethodOutput"):
        train(build_training(recipe(method, grad_cache=grad_cache)))


def test_a_mistake_in_a_hook_ends_the_run_with_its_name_and_its_line(recipe):
    method = type(
        "Wrong", (OfShapes,), {"after_step": lambda self, outputs, progress: outputs.loss, "__module__": __name__}
    )
    with pytest.raises(
        PluginError, match=r"Wrong: after_step\(outputs, progress\) raised AttributeError.*line \d+ of .*test_plugin"
    ):
        train(build_training(recipe(method)))


def test_wrong_images_are_a_warning(recipe, capsys):
    def visualize(self, pixel_values):
        return {"a": pixel_values.mean(2)}

    training = build_training(recipe(type("Wrong", (OfShapes,), {"visualize": visualize, "__module__": __name__})))
    assert write_predictions(training, training.rows) is None
    assert "warning: there is no predictions.png: method" in (said := capsys.readouterr().err)
    assert "Wrong: visualize() returned shape (8, 1, 16, 16) for 'a', expected images" in said


def test_a_misspelled_hook_ends_the_run_before_the_data_are_opened(recipe):
    method = type("Wrong", (OfShapes,), {"after_steps": lambda self, outputs, progress: None, "__module__": __name__})
    with pytest.raises(
        PluginError, match="defines after_steps, which nothing calls or reads; did you mean after_step?"
    ):
        build_training(recipe(method))


@strict
class OldKindConfig(MethodConfig):
    """Configuration of a method as it was written for version 0.1.

    Args:
        level: Mean of the images.
    """

    model_type = "hfcontrast_old_kind"
    level: float | None = None


def old_kind():
    """A class that knows all members of the contract by their first names."""

    class OldKind(OfShapes):
        """A method of a plugin that has not been changed for years."""

        config_class = OldKindConfig
        measured = ("level",)

        def __init__(self, config):
            super().__init__(config)
            self.hold_still("encoder.embeddings")

        @classmethod
        def measure(cls, images, options):
            return {**super().measure(images, options), "level": images.mean().item()}

        def embed(self, pixel_values, index):
            kept = self.draws(index, pixel_values.shape[-1], purpose=1)[:, None, None, None] < 0.9
            return super().embed(pixel_values * kept)

        def depict(self, pixel_values):
            return {**super().depict(), "image": pixel_values[:, 0]}

        def after_backward(self, progress):
            if progress.epoch < 1:
                self.head.bias.grad = None

    return OldKind


def test_a_class_with_old_names_trains_with_one_warning_for_each(recipe):
    with pytest.warns(FutureWarning) as warned:
        method_class = old_kind()
        training = build_training(recipe(method_class, steps=4))
        before = training.method.head.bias.clone()
        train(training)
        assert write_predictions(training, training.rows) is not None
    told = [str(warning.message) for warning in warned if "OldKind" in str(warning.message)]
    for old, new in RENAMED.items():
        assert [f"OldKind: {old} is called {new} now" in text for text in told].count(True) == 1, (old, told)
    method = training.method
    assert method.config.level > 0 and not method.encoder.embeddings.training and method.encoder.encoder.training
    assert not torch.equal(method.head.bias, before)  # from the second epoch on


def test_old_names_of_methods_that_have_the_new_ones_can_be_called():
    class NewKind(OfShapes):
        def visualize(self, pixel_values):
            return {"image": pixel_values[:, 0]}

    class OnTop(NewKind):
        def depict(self, pixel_values):
            return {**super().depict(pixel_values), "again": pixel_values[:, 0]}

    method = OnTop(AskedConfig(backbone_config=backbone_config(VIT, [16])))
    assert list(method.visualize(torch.zeros(2, 1, 3, 16, 16))) == ["image", "again"]
    method.hold_still("head")
    assert not method.head.training
    assert OnTop.measured == OnTop.data_statistics == ()
