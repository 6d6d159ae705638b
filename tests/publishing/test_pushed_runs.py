"""Runs that push to the Hub by themselves, at their end and at checkpoints, against a Hub on this machine."""

import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from hfcontrast.errors import HubError, RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.run_push import RunPush
from hfcontrast.run_training import run_training

NAME = "me/digits"
CNN = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}


def recipe(output, steps=4, **publish):
    return load_recipe(
        {
            "method": {"name": "moco", "queue_size": 16},
            "backbone": CNN,
            "data": {"path": "builtin/digits", "split": "train[:48]", "workers": 0},
            "views": {"all": {"size": 16}},
            "train": {"steps": steps, "batch_size": 8, "checkpoint_every": 2, "device": "cpu", "output": str(output)},
            "eval": {"baselines": False, "max_train": 32, "max_test": 16},
            "publish": publish,
        }
    )


def weights(folder):
    return load_file(folder / "method" / "model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same run without pushes."""
    output = tmp_path_factory.mktemp("alone")
    run_training(recipe(output))
    return weights(output)


def test_a_run_pushes_at_checkpoints_and_at_its_end_and_trains_as_without(hub, alone, tmp_path, capsys):
    run_training(recipe(tmp_path, push_to=NAME, push_strategy="every_save", private=True, license="mit"))
    assert hub.commits == ["Step 2 of 4", "The encoder at the end of its training"]
    assert hub.repositories[NAME]["private"]
    pushed, files = weights(tmp_path), hub.files(NAME)
    assert pushed.keys() == alone.keys() and all(torch.equal(value, alone[name]) for name, value in pushed.items())
    assert files["model.safetensors"] == (tmp_path / "model.safetensors").read_bytes()
    assert "neighbors.png" in files  # of data that all have
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "mit" and "unfinished run" not in card.text and f'"{NAME}"' in card.text
    published = yaml.safe_load(files["recipe.yaml"])["publish"]
    assert published["push_to"] is None and published["license"] == "mit"  # who repeats the run pushes elsewhere
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".unfinished")]
    told = capsys.readouterr()
    assert "Pushed: http" in told.out and "warning" not in told.err


def test_what_is_pushed_at_a_checkpoint_says_that_it_is_unfinished(hub, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(RunPush, "at_end", lambda self: self._upload.join() or seen.update(hub.files(NAME)))
    run_training(recipe(tmp_path, push_to=NAME, push_strategy="every_save"))
    assert "exported after step 2 of 4" in seen["README.md"].decode() and "result.json" not in seen
    assert str(tmp_path) not in seen["README.md"].decode() + seen["recipe.yaml"].decode()
    assert json.loads(seen["config.json"])["model_type"] == "resnet"


def test_a_push_that_fails_never_loses_the_run(hub, alone, tmp_path, capsys):
    hub.failures = [("/commit/", 500)] * 100
    run_training(recipe(tmp_path, push_to=NAME, push_strategy="every_save", private=True))
    assert all(torch.equal(value, alone[name]) for name, value in weights(tmp_path).items())
    told = capsys.readouterr().err
    assert "step 2 of 4 is not pushed to me/digits" in told and "the run goes on" in told
    assert f"`hfcontrast push {tmp_path} {NAME} --private` pushes it" in told and "Traceback" not in told
    assert (tmp_path / "result.json").exists() and not hub.files(NAME)


def test_what_could_never_be_pushed_is_refused_before_the_first_step(hub, tmp_path, monkeypatch):
    for token, name, says in (
        (None, NAME, "publish.push_to: there is no token"),
        ("hf_wrong", NAME, "publish.push_to: the Hub does not accept"),
        ("hf_writes", "you/digits", "publish.push_to: the token may not write to you/digits"),
    ):
        monkeypatch.delenv("HF_TOKEN", raising=False) if token is None else monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HubError, match=says):
            run_training(recipe(tmp_path, push_to=name))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_run_begins_without_the_hub(hub, tmp_path, capsys):
    hub.close()
    run_training(recipe(tmp_path, steps=1, push_to=NAME))
    told = capsys.readouterr().err
    assert "the run pushes to me/digits when it can" in told and "hfcontrast push" in told


def test_only_the_first_process_pushes(hub):
    publish = SimpleNamespace(push_to=NAME, private=None, push_strategy="end")
    other = SimpleNamespace(recipe=SimpleNamespace(publish=publish), accelerator=SimpleNamespace(is_main_process=False))
    pushes = RunPush(other, None, 1.0)
    pushes.begin()
    pushes.at_end()
    assert hub.requests == []


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"push_to": "digits"}, "publish.push_to.*USER/NAME"),
        ({"push_to": "https://huggingface.co/me/digits"}, "publish.push_to.*USER/NAME"),
        ({"push_strategy": "every_save"}, "publish.push_strategy.*push_to is missing"),
        ({"private": True}, "publish.private.*push_to is missing"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, says, tmp_path):
    with pytest.raises(RecipeError, match=says):
        recipe(tmp_path, **settings)


def test_images_of_the_data_are_not_made_where_they_are_not_wanted(tmp_path):
    run_training(recipe(tmp_path, steps=1, images=False))
    assert not (tmp_path / "neighbors.png").exists() and "Nearest" not in (tmp_path / "README.md").read_text()


def test_images_that_cannot_be_made_are_a_warning(tmp_path, monkeypatch, capsys):
    def fails(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr("hfcontrast.run_figures.image_sheet", fails)
    run_training(recipe(tmp_path, steps=1))
    assert "warning: there is no neighbors.png: RuntimeError: no font" in capsys.readouterr().err
    assert (tmp_path / "result.json").exists() and "Nearest" not in (tmp_path / "README.md").read_text()


def test_where_a_run_is_pushed_to_may_change_when_it_resumes(tmp_path):
    one, other = recipe(tmp_path), recipe(tmp_path, push_to=NAME, images=True)
    assert one.fingerprint() == other.fingerprint()
