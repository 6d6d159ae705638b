"""What cards say happened, of runs of all kinds, against their ``result.json``."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.publishing.pushed_files import files_to_push
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CNN = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VIT = {"model_type": "vit", "patch_size": 4, **TOWER}
TOWERS = {"model_type": "clip", "projection_dim": 8, "vision_config": {**TOWER, "patch_size": 8}, "text_config": TOWER}
DIGITS = {"path": "builtin/digits", "split": "train[:64]"}
STEPS, BATCH = 3, 8


class Crash(Exception):
    """What ends the run in the middle."""


def noise(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data and weights of all kinds, in folders whose names must not get out."""
    root = tmp_path_factory.mktemp("secret")
    for split, count in (("train", 24), ("test", 8)):
        (root / "pairs" / split).mkdir(parents=True)
        rows = []
        for i in range(count):
            noise(i + 100 * (split == "test")).save(root / "pairs" / split / f"{i}.png")
            words = " with very many further words behind it, so that it is long" * (i % 4 == 0)
            rows.append({"file_name": f"{i}.png", "caption": f"image number {i}{words}"})
        (root / "pairs" / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for i in range(40):
        file = root / "classes" / ("even", "odd")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise(i).save(file)
    shutil.copytree(root / "classes" / "odd", root / "flat")
    for name, data in (("bad.png", b"\x89PNG\r\n\x1a\n"), ("cut.jpg", b"\xff\xd8\xff\xe0"), ("notes.pdf", b"%PDF")):
        (root / "flat" / name).write_bytes(data)
    Dataset.from_dict({"image": [noise(i) for i in range(24)]}).to_parquet(root / "shard.parquet")
    torch.manual_seed(0)
    for name, backbone in (("cnn", CNN), ("vit", VIT)):
        encoder = build_encoder(backbone_config(backbone, [16]))
        for folder in (root / name, root / f"models--owner--{name}" / "snapshots" / COMMIT):
            encoder.save_pretrained(folder)
    (root / "cnn" / "README.md").write_text("---\nbase_model: owner/first\n---\n\n# cnn\n")
    return root


def cached(place: Path, name: str) -> str:
    """A folder as the Hub's cache has it."""
    return str(place / f"models--owner--{name}" / "snapshots" / COMMIT)


def kinds(place: Path) -> dict[str, dict]:
    """The sections of the recipe of each kind of run."""
    pairs = {
        "data": {"path": "imagefolder", "data_dir": f"{place}/pairs"},
        "method": {"name": "clip"},
        "text": {"vocab_size": 600},
    }
    elsewhere = {
        "task": "kinds",
        "path": f"{place}/classes",
        "split": "train",
        "classes": ["even", "odd"],
        "templates": ["{}"],
    }
    towers, vit, cnn = (cached(place, name) for name in ("towers", "vit", "cnn"))
    pair = {
        "model_type": "vision-text-dual-encoder",
        "projection_dim": 8,
        "text": {"model_type": "bert", **TOWER},
    }
    return {
        "from random weights": {},
        "from released weights": {"backbone": {"pretrained": cnn}},
        "from weights of a folder": {"backbone": {"pretrained": f"{place}/cnn"}},
        "with adapters": {"backbone": {"pretrained": vit, "lora": {"r": 2, "target_modules": ["q_proj", "v_proj"]}}},
        "two towers": {**pairs, "backbone": TOWERS, "text": {"vocab_size": 600, "max_length": 12}, "eval": {"baselines": False, "zero_shot": [elsewhere]}},
        "two towers from released weights": {**pairs, "backbone": {"pretrained": towers}},
        "two towers, one locked": {**pairs, "backbone": {"pretrained": towers, "locked": ["vision"]}},
        "two towers with adapters": {**pairs, "backbone": {"pretrained": towers, "lora": {"r": 4, "towers": ["text"]}}},
        "one tower from released weights": {**pairs, "text": {"vocab_size": 600}, "backbone": {**pair, "min_matched": 0.9, "vision": {"pretrained": vit}}},
        "of timm": {"backbone": "timm/test_resnet", "views": {"all": {"size": 32}}},
        "of a stream": {
            "data": {"path": "parquet", "data_files": f"{place}/shard.parquet", "streaming": True},
            "eval": {"path": "builtin/digits", "max_train": 64, "max_test": 16, "baselines": False},
        },
        "of a folder without labels": {"data": {"path": "imagefolder", "data_dir": f"{place}/flat", "max_unreadable": 0.5}},
        "of a folder with labels": {"data": {"path": f"{place}/classes"}},
        "with labels": {"method": {"name": "supcon"}},
        "resumed": {},
        "of a data set in memory": {"data": {"path": Dataset.from_dict({"image": [noise(i) for i in range(24)]})}},
    }  # fmt: skip


KINDS = [
    "from random weights", "from released weights", "from weights of a folder", "with adapters", "two towers",
    "two towers from released weights", "two towers, one locked", "two towers with adapters", "one tower from released weights",
    "of timm", "of a stream", "of a folder without labels", "of a folder with labels", "with labels", "resumed", "of a data set in memory",
]  # fmt: skip
FAST = {"from random weights", "two towers with adapters", "of a folder without labels"}

# Of each kind: facts of result.json, what its card says, and what it must not say.
RANDOM = {"start": None}
SAYS_RANDOM = ["The training started from random weights."]
NOT_RANDOM = ["random weights"]
ON_HUB = [f"(https://huggingface.co/owner/{{}}), revision `{COMMIT}`"]
EXPECTED = {
    "from random weights": (RANDOM, [*SAYS_RANDOM, "`builtin/digits`, which comes with hfcontrast", "did not see its labels"], ["LoRA", "locked", "released"]),
    "from released weights": ({"start": {"locked": [], "lora": None}}, [ON_HUB[0].format("cnn"), "The whole encoder was trained further."], [*NOT_RANDOM, "LoRA", "locked"]),
    "from weights of a folder": ({"start": {"lora": None}}, ["`cnn`, a folder of the machine that trained, trained from [`owner/first`]"], [*NOT_RANDOM, "LoRA", "revision"]),
    "with adapters": ({"start": {"lora": {"r": 2, "layers": 2, "targets": ["q_proj", "v_proj"]}}}, ["LoRA adapters of rank 2 (alpha 4) on 2 layers (`q_proj`, `v_proj`)", "the folder `adapter`"], [*NOT_RANDOM, "locked", "whole encoder"]),
    "two towers": (RANDOM, [*SAYS_RANDOM, "pairs of images and captions from `pairs`", "6 of 24 captions"], ["LoRA", "locked", "released"]),
    "two towers from released weights": ({"start": {"lora": None}}, [ON_HUB[0].format("towers"), "Both towers were trained."], [*NOT_RANDOM, "LoRA", "locked"]),
    "two towers, one locked": ({"start": {"locked": ["vision"]}}, ["The image tower was locked"], [*NOT_RANDOM, "LoRA", "text tower was locked", "Both towers"]),
    "two towers with adapters": ({"start": {"locked": [], "lora": {"r": 4, "towers": ["text"]}}}, ["LoRA adapters of rank 4", "of the text tower"], [*NOT_RANDOM, "locked", "of the image tower"]),
    "one tower from released weights": ({"start": {"lora": None}}, ["The image tower started from the released weights", "The text tower started from random weights."], ["locked", "LoRA"]),
    "of timm": (RANDOM, [*SAYS_RANDOM, "With timm alone"], ["LoRA", "released"]),
    "of a stream": ({"data": {"streaming": True, "labels": None, "kind": "local", "name": "shard.parquet"}}, ["`shard.parquet`, files of the machine that trained"], ["its labels"]),
    "of a folder without labels": ({"data": {"labels": None, "rows": 22, "not_used": {"files that are no images": 1}}}, ["`flat`, files of the machine", "22 images", "files that are no images (1)"], ["its labels", "| kNN"]),
    "of a folder with labels": ({"data": {"labels": "unused", "name": "classes"}, "evaluation": {"test_rows": 8}}, ["of the 8 test rows too, without their labels.", "did not see its labels"], ["labels included"]),
    "with labels": ({"data": {"labels": "used"}}, ["trained with\nlabels", "The training learned from its labels."], ["did not see", "without\nlabels"]),
    "resumed": (RANDOM, [*SAYS_RANDOM], ["resumed in another environment"]),
    "of a data set in memory": ({"data": {"kind": "memory", "rows": 24}}, ["a data set that was open in Python", "load_recipe(RECIPE, dataset=...)"], ["memory/"]),
}  # fmt: skip
HUB = {
    "from released weights": ["owner/cnn"],
    "from weights of a folder": ["owner/first"],
    "with adapters": ["owner/vit"],
}
HUB |= {name: ["owner/towers"] for name in KINDS if name.startswith("two towers ") or name.endswith("locked")}
HUB["one tower from released weights"] = ["owner/vit"]


@pytest.fixture(scope="module")
def finished(place):
    """The folder of a run of a kind, trained once."""
    done: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in done:
            output = place / "runs" / re.sub(r"\W+", "_", kind)
            settings = {
                "method": {"name": "simclr"},
                "backbone": CNN,
                "data": DIGITS,
                "views": {"all": {"size": 16}},
                "train": {"steps": STEPS, "batch_size": BATCH, "device": "cpu", "checkpoint_every": 2, "log_every": 1, "output": str(output)},
                "eval": {"baselines": False, "max_train": 64, "max_test": 16},
            } | kinds(place)[kind]  # fmt: skip
            if "towers" in str(settings["backbone"]):
                base, copy = get("two towers"), Path(cached(place, "towers"))
                unneeded = shutil.ignore_patterns("checkpoints", "method", "README.md")
                shutil.copytree(base, copy, ignore=unneeded, dirs_exist_ok=True)
            settings["data"] = {"workers": 0, **settings["data"]}
            if kind == "resumed":
                crash(load_recipe(settings, source="recipe.yaml"))
            run_training(load_recipe(settings, source="recipe.yaml"))
            done[kind] = output
        return done[kind]

    return get


def crash(recipe) -> None:
    """Trains until an exception in the last step, behind a checkpoint."""
    training = build_training(recipe)
    after_step = training.method.after_step

    def crashing(outputs, progress):
        if progress.step == STEPS - 1:
            raise Crash
        after_step(outputs, progress)

    training.method.after_step = crashing
    with pytest.raises(Crash):
        train(training)


def checkpoints(folder: Path) -> list[str]:
    """The names of the folders that are not published."""
    return ["checkpoints", *(path.name for path in (folder / "checkpoints").glob("step_*"))]


def contains(found, expected) -> bool:
    """Whether mappings have what others ask for, at any depth."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(contains(found.get(name), value) for name, value in expected.items())
    return found == expected


@pytest.mark.parametrize("kind", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_a_card_says_what_the_result_has(kind, finished, place):
    folder = finished(kind)
    card, published = (folder / "README.md").read_text(), (folder / "recipe.yaml").read_text()
    result = json.loads((folder / "result.json").read_text())
    for file in folder.rglob("*"):  # peft finds the base of an adapter by its path
        if file.suffix in (".json", ".jsonl", ".yaml", ".md") and file.parent.name not in (
            *checkpoints(folder),
            "adapter",
        ):
            assert str(place) not in (written := file.read_text()) and f"{Path.home()}/" not in written, file
    prose = card.split("---\n", 2)[2].split("```yaml")[0]
    facts, says, never = EXPECTED[kind]
    assert contains(result, facts), {name: result[name] for name in facts}
    for sentence in says:
        assert sentence in prose, prose
    for words in never:
        assert words not in prose, prose
    assert "alone" not in prose.split("## Use")[0] + prose.split("## Limits")[1]
    data, start = result["data"], result["start"]
    assert f"{STEPS} steps with {BATCH} images each on cpu, 1 process, fp32." in prose
    rows = f"{data['rows']} images" if data["rows"] else "of unknown length"
    assert rows in prose and result["setups"][0]["versions"]["torch"] in card
    for cause, count in {**data["unreadable"], **data["not_used"]}.items():
        assert f"{cause} ({count:,})" in prose
    count = sum(data["unreadable"].values())
    assert (f"{count} row" in prose and "left out of the training" in prose) == bool(count)
    assert ("first weights were trained on" in prose) == (start is not None)
    assert bool(result["captions"] and result["captions"]["cut_off"]) == ("cut off." in prose)
    own = yaml.safe_load((folder / "checkpoints/recipe.yaml").read_text())
    assert (str(place) in json.dumps(own)) and yaml.safe_load(published)["train"] != own["train"]


@pytest.mark.parametrize("kind", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_its_metadata_are_valid_and_hold_nothing_that_is_not_known(kind, finished):
    folder = finished(kind)
    result = json.loads((folder / "result.json").read_text())
    data = ModelCard.load(folder / "README.md").data  # which checks the scores
    bases = HUB.get(kind)
    relation = None if bases is None else "adapter" if result["start"]["lora"] else "finetune"
    assert (data.get("base_model"), data.get("base_model_relation")) == (bases, relation)
    assert data.license is None and data.datasets is None
    assert data.library_name == ("timm" if kind == "of timm" else "transformers")
    written = {one.metric_value for one in data.eval_results or []}
    assert written <= {round(value, 4) for value in result["scores"].get("trained", {}).values()}


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


FINE_TUNED = ["from random weights", "two towers with adapters", pytest.param("of timm", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", FINE_TUNED)
def test_the_lines_for_fine_tuning_run_and_read_the_published_weights(kind, finished, monkeypatch):
    folder = finished(kind)
    monkeypatch.chdir(folder.parent)  # where the card's name of the folder is one
    noise(0).save("image.jpg")
    body = (folder / "README.md").read_text()
    decode = next(block for block in python_blocks(body) if "def decode" in block)
    lines = python_blocks(body.split("## Fine-tune")[1].split("\n## ")[0])
    assert len(lines) == 1 + (kind == "of timm")
    names: dict = {}
    exec(decode.split("processor =")[0], names)
    exec(lines[0], names)
    model, published = names["model"], load_file(folder / "model.safetensors")
    own = {name.removeprefix("timm_model."): value for name, value in model.state_dict().items()}
    shared = [name for name in own if name.split(".", 1)[-1] in published or name in published]
    assert len(shared) > 3 and torch.isfinite(names["loss"])
    for name in shared:
        expected = published.get(name, published.get(name.split(".", 1)[-1]))
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(own[name], expected), name
    if kind == "of timm":
        exec(lines[1], names)
        assert names["model"].num_classes == 10


@pytest.mark.parametrize("kind", FINE_TUNED[:2])
def test_cards_of_two_towers_say_what_transformers_4_returns(kind, finished):
    body = (finished(kind) / "README.md").read_text()
    assert ("In transformers 4 `get_image_features`" in body) == kind.startswith("two towers")


def test_images_and_curves_of_a_run_are_on_its_card(finished):
    folder = finished("from random weights")
    body = (folder / "README.md").read_text()
    assert "6 test images, and beside each the 5 nearest of 64 train images" in body
    for name in ("neighbors.png", "curves.png"):
        assert f"]({name})" in body
        assert Image.open(folder / name).convert("L").getextrema()[0] < 128
    assert "## Citation\n\n```bibtex\n@inproceedings{chen2020simple," in body
    assert "It has learned from 64 images, in crops of 16 px" in body


def test_neighbors_of_a_run_without_labels_are_found_among_images_that_are_not_evaluated_on(finished):
    body = (finished("of a folder without labels") / "README.md").read_text()
    rows, tests = (
        22,
        json.loads((finished("of a folder without labels") / "result.json").read_text())["evaluation"]["test_rows"],
    )
    assert tests and int(re.search(r"nearest of (\d+) train images", body)[1]) <= rows - tests


@pytest.mark.parametrize("kind", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_nothing_of_this_machine_is_pushed(kind, finished, place):
    folder = finished(kind)
    pushed = files_to_push(folder, "me/name", method=True)
    names = [one.name for one in pushed.files]
    assert not [name for name in names if name.startswith(("checkpoints", ".")) or "metrics" in name]
    for one in pushed.files:
        data = one.file.read_bytes() if one.content is None else one.content
        assert str(place).encode() not in data and f"{Path.home()}/".encode() not in data, one.name
    if "adapters" in kind:
        content = next(one.content for one in pushed.files if one.name == "adapter/adapter_config.json")
        assert json.loads(content)["base_model_name_or_path"] == HUB[kind][0]


@pytest.mark.slow
def test_a_resumed_run_says_what_one_that_was_left_alone_says(finished):
    cards = [(finished(kind) / "README.md").read_text() for kind in ("from random weights", "resumed")]
    one, other = (card.replace("from_random_weights", "NAME").replace("resumed", "NAME") for card in cards)
    assert one == other
