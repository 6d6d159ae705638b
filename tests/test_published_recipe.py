"""The recipe that is published beside the encoder names no folder of the machine that trained."""

import json
from pathlib import Path

import pytest
import yaml

from hfcontrast.errors import CheckpointError
from hfcontrast.recipe import load_recipe
from hfcontrast.recipe.published import (
    FILE,
    OWN_FILE,
    local_name,
    own_recipe,
    public_name,
    published_values,
    published_yaml,
)
from hfcontrast.training.output_folder import check_same_run

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def recipe(data: dict, **sections):
    base = {
        "method": {"name": "simclr"},
        "backbone": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1]},
        "train": {"steps": 3, "batch_size": 8, "output": "outputs/one"},
    }
    return load_recipe({**base, "data": data, **sections}, check=False, source="one.yaml")


def test_local_data_is_called_by_the_name_of_its_folder(tmp_path):
    (tmp_path / "photos" / "train").mkdir(parents=True)
    shards = tmp_path / "shards"
    shards.mkdir()
    for data, expected in (
        ({"path": "imagefolder", "data_dir": f"{tmp_path}/photos"}, ("imagefolder", "photos", None)),
        ({"path": "imagefolder", "data_dir": f"{tmp_path}/photos/train/"}, ("imagefolder", "photos/train", None)),
        ({"path": f"{tmp_path}/photos"}, ("photos", None, None)),
        ({"path": f"{tmp_path}/photos", "data_dir": "train"}, ("photos", "train", None)),
        ({"path": "parquet", "data_files": f"{shards}/a-*.parquet"}, ("parquet", None, "a-*.parquet")),
        ({"path": "parquet", "data_files": {"train": [f"{shards}/**/a.parquet"]}}, ("parquet", None, {"train": ["**/a.parquet"]})),
        ({"path": "owner/set", "data_dir": "sub/folder"}, ("owner/set", "sub/folder", None)),
        ({"path": "builtin/digits"}, ("builtin/digits", None, None)),
        (
            {"path": "webdataset", "data_files": "https://name:secret@host/a.tar?key=secret"},
            ("webdataset", None, "https://host/a.tar"),
        ),
    ):  # fmt: skip
        found = published_values(recipe(data))
        section = found.values["data"]
        assert (section["path"], section["data_dir"], section["data_files"]) == expected
        assert str(tmp_path) not in json.dumps(found.values) and "secret" not in json.dumps(found.values)
        assert bool(found.names) == (str(tmp_path) in json.dumps(data) or "secret" in json.dumps(data))


def test_every_path_of_a_recipe_is_replaced_and_its_comment_says_by_what(tmp_path):
    (tmp_path / "released").mkdir()
    weights = {"vision": {"pretrained": f"{tmp_path}/released"}, "text": {"pretrained": "owner/text"}}
    one = recipe(
        {"path": "imagefolder", "data_dir": f"{tmp_path}/photos", "split": "train"},
        backbone={"model_type": "vision-text-dual-encoder", "projection_dim": 8, **weights},
        text={"tokenizer": f"{tmp_path}/released"},
        eval={
            "path": f"{tmp_path}/released",
            "tasks": {"zero-shot": {"tasks": [{"task": "x", "path": f"{tmp_path}/released", "classes": ["a"]}]}},
        },
        method={"name": "simclr", "teacher": str(tmp_path / "released")},
        train={"steps": 3, "batch_size": 8, "output": f"{tmp_path}/outputs/one"},
    )
    text = published_yaml(one)
    assert str(tmp_path) not in text and text.count(": released") == 5
    comment, values = text.split("\n", 1)[0], yaml.safe_load(text)
    for name in ("data.data_dir", "eval.path", "backbone.vision.pretrained", "text.tokenizer", "method.teacher"):
        assert name in comment
    assert "train.output" in comment and values["train"]["output"] == "one"
    assert values["backbone"]["text"]["pretrained"] == "owner/text"
    assert not published_yaml(recipe({"path": "builtin/digits"})).startswith("#")


def test_weights_in_the_cache_of_the_hub_keep_their_name_and_commit(tmp_path):
    folder = tmp_path / "models--owner--name" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    found = published_values(recipe({"path": "builtin/digits"}, backbone={"pretrained": str(folder)})).values
    assert found["backbone"] == {"pretrained": "owner/name", "revision": COMMIT}
    assert public_name(str(folder)) == "owner/name"


def test_a_name_does_not_say_whose_home_it_was_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "alice"))
    assert local_name("~/images") == "images" and local_name("~/flowers/images") == "flowers/images"
    assert local_name(str(tmp_path / "train")) == "train"


def test_a_finished_run_is_known_by_its_own_recipe_or_without_checkpoints_by_its_result(tmp_path):
    (tmp_path / "photos").mkdir()
    output = tmp_path / "run"
    one, other = (
        load_recipe(
            {
                "method": {"name": "simclr"},
                "backbone": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1]},
                "data": {"path": "imagefolder", "data_dir": str(folder)},
                "train": {"steps": 3, "batch_size": 8, "output": str(output)},
            },
            source="one.yaml",
        )
        for folder in (tmp_path / "photos", tmp_path / "elsewhere" / "photos")
    )
    output.mkdir()
    (output / FILE).write_text(published_yaml(one))
    (output / "result.json").write_text(json.dumps({"recipe_hash": one.fingerprint().hash}))
    assert own_recipe(output) == output / FILE
    check_same_run(one, output)
    with pytest.raises(CheckpointError, match="a run of another recipe"):
        check_same_run(other, output)
    (output / OWN_FILE).parent.mkdir()
    one.save(output / OWN_FILE)
    assert own_recipe(output) == output / OWN_FILE
    (output / "result.json").write_text("{}")
    check_same_run(one, output)
    with pytest.raises(CheckpointError, match="data.data_dir"):
        check_same_run(other, output)
    assert Path(output / FILE).read_text() != (output / OWN_FILE).read_text()


def test_the_published_recipe_of_a_run_still_repeats_it_on_its_own_machine_until_it_is_changed(tmp_path):
    (tmp_path / "photos").mkdir()
    output = tmp_path / "run"
    settings = {
        "method": {"name": "simclr"},
        "backbone": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1]},
        "data": {"path": "imagefolder", "data_dir": str(tmp_path / "photos")},
        "train": {"steps": 3, "batch_size": 8, "output": str(output)},
    }
    one = load_recipe(settings, source="one.yaml")
    (output / OWN_FILE).parent.mkdir(parents=True)
    one.save(output / OWN_FILE)
    (output / FILE).write_text(published_yaml(one))
    again = load_recipe(output / FILE, ["train.steps=4"])
    assert again.data.data_dir == str(tmp_path / "photos") and again.train.output == str(output)
    assert again.train.steps == 4 and load_recipe(output / FILE).fingerprint() == one.fingerprint()
    (output / FILE).write_text(published_yaml(one).replace("data_dir: photos", "data_dir: other"))
    assert load_recipe(output / FILE).data.data_dir == "other"
