"""`hfcontrast push`, with huggingface_hub's own client, against a Hub on this machine."""

import json
import shutil

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModel

from hfcontrast.commands.cli import main
from hfcontrast.errors import HubError
from hfcontrast.publishing import push as pushing
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training

NAME = "me/flowers"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run on images of this machine."""
    root = tmp_path_factory.mktemp("secret_place")
    noise = torch.Generator().manual_seed(0)
    from PIL import Image

    for number in range(24):
        file = root / "photos" / ("a", "b")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=noise).numpy()).save(file)
    backbone = {
        "model_type": "vit",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 8,
    }
    recipe = {
        "method": {"name": "simclr"},
        "backbone": backbone | {"intermediate_size": 16},
        "data": {"path": "imagefolder", "data_dir": f"{root}/photos", "workers": 0},
        "views": {"all": {"size": 16}},
        "train": {"steps": 2, "batch_size": 8, "log_every": 1, "device": "cpu", "output": str(root / "run")},
        "eval": {"baselines": False},
    }
    run_training(load_recipe(recipe, source="recipe.yaml"))
    return root / "run"


def push(*arguments) -> int:
    return main(["push", *map(str, arguments)])


def test_an_encoder_is_pushed_and_loads_from_the_hub(hub, finished, tmp_path, capsys):
    (finished / "notes.txt").write_text("mine")
    assert push(finished, NAME, "--license", "apache-2.0", "--message", "first") == 0
    files = hub.files(NAME)
    assert set(files) >= {"config.json", WEIGHTS, "preprocessor_config.json", "README.md", "recipe.yaml", "result.json"}
    assert not [name for name in files if name.startswith(("checkpoints", "method", ".", "metrics", "notes"))]
    assert hub.commits == ["first"] and not hub.repositories[NAME]["private"]
    model = AutoModel.from_pretrained(NAME, cache_dir=tmp_path)
    here = AutoModel.from_pretrained(finished)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in here.state_dict().items())
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "apache-2.0" and "`apache-2.0`" in card.text and "No license" not in card.text
    assert f'AutoModel.from_pretrained("{NAME}")' in card.text and card.text.startswith("\n# flowers\n")
    assert '"run"' not in card.text and "stands for the folder" not in card.text
    assert "Pushed: http" in capsys.readouterr().out
    assert "stands for the folder" in (finished / "README.md").read_text()  # the folder is as it was
    (finished / "notes.txt").unlink()


def test_no_path_of_this_machine_is_uploaded(hub, finished, tmp_path):
    run = tmp_path / "old_run"
    shutil.copytree(finished, run)
    own = yaml.safe_load((run / "checkpoints" / "recipe.yaml").read_text())
    photos = own["data"]["data_dir"]
    (run / "recipe.yaml").write_text(yaml.dump(own))  # as runs of earlier versions have left it
    shutil.rmtree(run / "checkpoints")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"_name_or_path": f"{run}/start", "note": str(photos)}))
    (run / "README.md").write_text(
        (run / "README.md").read_text() + f"\nTrained on {photos} and {run}/more, for https://host{run}\n"
    )
    assert push(run, NAME, "--method") == 0
    files = {name: data for name, data in hub.files(NAME).items() if not name.endswith((".safetensors", ".png"))}
    for name, data in files.items():
        text = data.decode().replace(f"https://host{run}", "")
        assert str(tmp_path) not in text and str(finished.parent) not in text, name
    assert json.loads(files["config.json"])["note"] == "photos"
    assert yaml.safe_load(files["recipe.yaml"])["data"]["data_dir"] == "photos"
    assert "Trained on photos and more, for" in files["README.md"].decode()
    assert "method/config.json" in files


@pytest.mark.parametrize("failing", ["PUT /lfs", "/commit/", "/preupload/"])
def test_a_failure_in_the_middle_is_tried_again_and_a_later_push_resumes(failing, hub, finished, capsys):
    hub.failures = [(failing, 503)] * 100
    assert push(finished, NAME) == 2
    told = capsys.readouterr()
    assert "503" in told.err and "Traceback" not in told.err and "trying again" in told.out
    assert not hub.files(NAME)  # a commit is all or nothing
    uploaded, hub.failures = len(hub.stored), [(failing, 503)]
    before = hub.count("PUT /lfs")
    assert push(finished, NAME) == 0 and WEIGHTS in hub.files(NAME)
    assert hub.failures == [] and (hub.count("PUT /lfs") > before) == (uploaded == 0)
    before, commits = hub.count("PUT /lfs"), len(hub.commits)
    assert push(finished, NAME) == 0  # nothing has changed
    assert hub.count("PUT /lfs") == before and len(hub.commits) == commits


def test_a_private_repository(hub, finished, capsys):
    assert push(finished, NAME, "--private") == 0 and hub.repositories[NAME]["private"]
    assert push(finished, NAME, "--private") == 0
    hub.repositories[NAME]["private"] = False
    before = dict(hub.files(NAME))
    assert push(finished, NAME, "--private", "--license", "mit") == 2
    assert "exists and is public" in capsys.readouterr().err and hub.files(NAME) == before


def test_a_branch(hub, finished):
    assert push(finished, NAME, "--revision", "half") == 0
    assert push(finished, NAME, "--revision", "half") == 0
    assert WEIGHTS in hub.files(NAME, "half") and not hub.files(NAME)


@pytest.mark.parametrize(
    "token, name, says",
    [
        (None, NAME, "hf auth login"),
        ("hf_wrong", NAME, "does not accept the token"),
        ("hf_reads", NAME, "may not write to me/flowers (You don't have the rights"),
        ("hf_writes", "someone/flowers", "may not write to someone/flowers"),
        ("hf_writes", "flowers", "USER/NAME"),
        ("hf_writes", "me/fl owers", "USER/NAME"),
        ("hf_writes", "me/flowers--x", "USER/NAME"),
        ("hf_writes", "https://huggingface.co/me/flowers", "is an address"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(token, name, says, hub, finished, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    assert push(finished, name) == 2
    told = capsys.readouterr().err
    assert says in told and len(told.strip().splitlines()) == 1 and not hub.repositories
    assert token is None or token not in told


def test_a_token_that_may_read_only_does_not_write_to_what_exists(hub, finished, monkeypatch, capsys):
    assert push(finished, NAME) == 0
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    assert push(finished, NAME, "--license", "mit") == 2
    assert "no write permissions" in capsys.readouterr().err


def test_no_hub(hub, finished, monkeypatch, capsys):
    hub.close()
    assert push(finished, NAME) == 2
    assert "cannot be reached" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert push(finished, NAME) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err


def test_a_license_that_is_none_is_refused_before_anything_is_uploaded(hub, finished, capsys):
    assert push(finished, NAME, "--license", "Apache 2") == 2
    assert '"license" must be one of' in capsys.readouterr().err and not hub.stored


def test_images_of_ones_own_data_are_uploaded_only_if_asked_for(hub, finished, tmp_path, capsys):
    assert (finished / "neighbors.png").exists() and "## Nearest neighbors" in (finished / "README.md").read_text()
    (finished / "predictions.png").write_bytes((finished / "neighbors.png").read_bytes())
    assert push(finished, NAME) == 0
    files = hub.files(NAME)
    assert (
        not files.keys() & {"neighbors.png", "predictions.png"}
        and "Nearest neighbors" not in files["README.md"].decode()
    )
    assert "## Evaluation" in files["README.md"].decode()
    assert "neighbors.png, predictions.png (shows images of the data: --images uploads it)" in capsys.readouterr().out
    assert push(finished, "me/more", "--images") == 0
    files = hub.files("me/more")
    assert files.keys() >= {"neighbors.png", "predictions.png", "curves.png"}
    assert "](neighbors.png)" in files["README.md"].decode() and "](curves.png)" in files["README.md"].decode()
    (finished / "predictions.png").unlink()


def test_a_dry_run_lists_files_and_sizes_and_asks_nothing(hub, finished, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert push(finished, NAME, "--dry-run") == 0
    told = capsys.readouterr().out
    assert not hub.requests and "Would upload" in told and WEIGHTS in told and " kB" in told
    assert "checkpoints/" in told and "method/ (the whole method: --method uploads it)" in told
    assert "states no license" in told
    assert push(finished, NAME, "--dry-run", "--method", "--license", "mit") == 0
    told = capsys.readouterr().out
    assert "method/model.safetensors" in told and "license" not in told


def test_a_folder_without_an_encoder(hub, finished, tmp_path, capsys):
    for folder, says in (
        (tmp_path / "none", "is no folder"),
        (tmp_path, "has no encoder"),
        (finished / "method" / "x", "is no folder"),
    ):
        assert push(folder, NAME) == 2
        assert says in capsys.readouterr().err
    (tmp_path / "checkpoints" / "step_000000002").mkdir(parents=True)
    assert push(tmp_path, NAME) == 2
    assert "hfcontrast export" in capsys.readouterr().err


def test_a_name_is_checked_without_the_hub():
    pushing.check_name(NAME)
    with pytest.raises(HubError):
        pushing.check_name("me/a/b")
