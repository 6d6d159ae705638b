"""Batches too small to learn from are refused before anything is loaded; a loss that never changes is reported."""

import json

import pytest
import torch

from hfcontrast.errors import PluginError, RecipeError
from hfcontrast.methods import registry
from hfcontrast.methods.base import BySetting, Progress
from hfcontrast.methods.contract.calling import fewest_images_of
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.publishing.card import build_card
from hfcontrast.publishing.result import build_result
from hfcontrast.recipe import load_recipe
from hfcontrast.testing import TINY_RESNET, build, random_batch
from hfcontrast.training import build as setup
from hfcontrast.training.batch_size import check_fewest_images, too_few_to_normalize
from hfcontrast.training.loop import train
from hfcontrast.training.loss_range import LossRange, constant_loss


def recipe_of(method, batch_size, output="out", **settings):
    options = {"hidden_dim": 16, "projection_dim": 8} if method["name"] in ("simclr", "byol", "vicreg") else {}
    return load_recipe(
        {
            "method": options | method,
            "backbone": {**TINY_RESNET, "model_type": "resnet"},
            "data": {"path": "builtin/digits", "split": "train[:32]", "workers": 0},
            "views": {"all": {"size": 32}},
            "train": {"batch_size": batch_size, "steps": 3, "device": "cpu", "output": str(output), **settings},
            "eval": {"baselines": False},
        }
    )


@pytest.mark.parametrize(
    "name, batch, processes, settings, words",
    [
        ("simclr", 8, 1, {"accumulation": 8}, "'simclr' cannot learn from fewer than 2 images at a time, and train.batch_size 8 over 8 micro-batches (train.accumulation) gives it 1: use train.batch_size=16 or more, or a lower train.accumulation"),
        ("simclr", 8, 1, {"accumulation": 4}, None),
        ("simclr", 8, 2, {"accumulation": 4}, None),  # the loss, and the statistics, of both processes
        ("simclr", 8, 2, {"accumulation": 4, "sync_batchnorm": False}, "fewer than 2 images at a time, and train.batch_size 8 over 4 micro-batches (train.accumulation) over 2 processes with batch statistics of their own (train.sync_batchnorm: false) gives it 1: use train.batch_size=16 or more, or a lower train.accumulation, or train.sync_batchnorm=true"),
        ("simclr", 1, 1, {"grad_cache": 1}, "gives it 1: use train.batch_size=2 or more"),
        ("simclr", 8, 1, {"grad_cache": 1}, None),  # the loss sees all pieces
        ("vicreg", 4, 1, {"accumulation": 2}, "'vicreg' cannot learn from fewer than 3 images"),
        ("vicreg", 4, 2, {"sync_batchnorm": False}, "gives it 2: use train.batch_size=6 or more, or train.sync_batchnorm=true"),
        ("byol", 2, 1, {}, "'byol' cannot learn from fewer than 3 images"),
        ("mae", 8, 8, {}, None),
        ("cmc", 1, 1, {}, None),
        ("moco", 1, 1, {}, None),
        ("clip", 2, 2, {"sync_batchnorm": False}, None),
    ],
)  # fmt: skip
def test_fewest_images(name, batch, processes, settings, words):
    arguments = recipe_of({"name": name}, batch, **settings), registry.get_method(name), processes
    if words is None:
        return check_fewest_images(*arguments)
    with pytest.raises(RecipeError) as error:
        check_fewest_images(*arguments)
    assert words in str(error.value)


def test_heads_without_batch_statistics_take_single_images():
    recipe = recipe_of({"name": "byol", "head_norm": "layer"}, 1)
    check_fewest_images(recipe, registry.get_method("byol"), 1)
    with pytest.raises(RecipeError, match="fewer than 2 images"):  # its negatives are the batch's
        check_fewest_images(recipe_of({"name": "cmc", "negatives": "batch"}, 1), registry.get_method("cmc"), 1)


def test_it_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "load_rows", lambda **_: pytest.fail("the data was read"))
    with pytest.raises(RecipeError, match="cannot learn from fewer than 2 images"):
        setup.build_training(recipe_of({"name": "simclr"}, 8, tmp_path, accumulation=8))


NEEDY = [
    name
    for name, entry in registry.installed().items()
    if entry.distribution == "hfcontrast" and max(fewest_images_of(registry.get_method(name), {})) > 1
]


@pytest.mark.parametrize("name", NEEDY)
def test_from_a_single_image_those_that_refuse_it_would_not_learn(name):
    """It cannot be computed, or the image is its own answer: all losses equal, or no gradient to speak of."""
    from small_methods import SMALL

    method_class = registry.get_method(name)
    method = build(method_class, **SMALL.get(name, {}))
    batch = random_batch(method_class, 8)
    found = []
    try:
        for number in range(3):
            method.zero_grad()
            start_step(method, Progress(0, 10, 5))
            loss = method(**{key: value[number : number + 1] for key, value in batch.items()}).loss
            loss.backward()
            found.append((loss.item(), max(p.grad.abs().max().item() for p in method.encoder.parameters() if p.grad is not None)))  # fmt: skip
    except ValueError as error:
        assert "more than 1 value" in str(error) or "at least" in str(error) or "needs" in str(error)
        return
    learns = max(gradient for _, gradient in found) > 1e-4 and len({loss for loss, _ in found}) > 1
    assert not learns or name in CAN_BE_COMPUTED, found


# A single image gives these a loss, but not what it stands for: a distribution, a balance over prototypes, negatives, targets that
# are normalized over a batch.
CAN_BE_COMPUTED = {"lejepa", "swav", "siglip", "simclr_v2", "deepcluster_v2", "distill"}


def test_a_method_says_a_number():
    with pytest.raises(PluginError, match="min_images is 0, expected a number of images, 1 or more"):
        type("Wrong", (registry.get_method("simclr"),), {"min_images": 0})
    with pytest.raises(PluginError, match="min_images depends on 'batchs', which is not a setting of SimCLRConfig"):
        type("Wrong", (registry.get_method("simclr"),), {"min_images": BySetting("batchs", {}, 1)})


def test_one_value_per_channel_is_one_sentence(tmp_path):
    """A micro-batch that the method could learn from, but not the encoder: a single value is left of a channel."""
    training = setup.build_training(recipe_of({"name": "moco", "queue_size": 8}, 1, tmp_path, resume="never"))
    training.method.encoder.encoder.stages[0].layers[0].layer[0].convolution.stride = (32, 32)
    with pytest.raises(RecipeError, match="one value per channel.*put more images in a micro-batch"):
        train(training)
    with pytest.raises(ValueError, match="something else"), too_few_to_normalize():
        raise ValueError("something else")


def test_a_loss_that_never_changes_is_reported(tmp_path):
    """DeepCluster has no assignments in its first epoch; the note survives a checkpoint."""
    training = setup.build_training(
        recipe_of({"name": "deepcluster_v2", "prototypes": [4], "hidden_dim": 8}, 8, tmp_path)
    )
    notes = train(training)
    assert "exactly 0 in all 3 steps: nothing was learned" in constant_loss(notes, 3)
    assert constant_loss(json.loads(json.dumps(training.checkpoints.notes(training.checkpoints.newest()))), 3)
    told = notes | {"evaluation": {"test_images": 8}}
    assert "exactly 0 in all 3 steps" in build_result(training, told, "digits")["constant_loss"]
    assert "\nThe loss was exactly 0 in all 3 steps" in str(build_card(training, told, 1.0, "digits"))
    assert "exactly" not in str(build_card(training, told | {"loss_range": [0.1, 0.2]}, 1.0, "digits"))
    assert constant_loss(notes, 1) is None  # one step says nothing
    assert constant_loss({}, 3) is None  # a checkpoint of an earlier version


def test_losses_are_followed_over_a_checkpoint_and_over_processes(on_processes):
    first = LossRange({}, 0)
    for value in (0.5, 0.25):
        first.add(torch.tensor(value))
    again = LossRange({"loss_range": first.note()}, 2)
    again.add(torch.tensor(0.375))
    assert again.note() == [0.25, 0.5]
    unknown = LossRange({}, 2)
    unknown.add(torch.tensor(0.0))
    assert unknown.note() is None

    def work(number):
        losses = LossRange({}, 0)
        losses.add(torch.tensor(float(number)))
        return losses.note()

    assert on_processes(work) == [[0.0, 1.0]] * 2
