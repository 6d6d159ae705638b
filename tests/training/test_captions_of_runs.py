"""Captions of runs: those that are cut off are counted, in all places that say what a run did."""

import json

import pytest
from accelerate import Accelerator
from datasets import load_from_disk
from PIL import Image
from test_every_method import CLIP, SIGLIP, Crash
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, pipeline

from hfcontrast.data.sources import load_rows
from hfcontrast.data.tokenizer import train_tokenizer
from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train
from hfcontrast.training.tokenizer import build_captions


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder with 16 images and their captions, of which four have more than 12 tokens."""
    folder = tmp_path_factory.mktemp("pairs")
    load_rows("builtin/shapes", split="train[:16]", captioned=True).dataset.save_to_disk(folder / "short")
    dataset = load_from_disk(folder / "short")
    captions = [f"{'one long word after another ' * 5}{n}" if n % 4 == 0 else f"a thing {n}" for n in range(16)]
    dataset.remove_columns("caption").add_column("caption", captions).save_to_disk(folder / "long")
    return str(folder / "long")


def recipe_of(pairs, folder, method="clip", backbone=CLIP, **text):
    return load_recipe(
        {
            "method": {"name": method},
            "backbone": backbone,
            "data": {"path": pairs, "workers": 0},
            "text": {"vocab_size": 600, "max_length": 12, **text},
            "views": {"all": {"size": 16}},
            "train": {"epochs": 2, "batch_size": 8, "checkpoint_every": 1, "log_every": 1, "device": "cpu", "output": str(folder)},
            "eval": {"baselines": False, "retrieval": False},
        }
    )  # fmt: skip


def test_captions_that_are_cut_off_are_told(pairs, tmp_path, capsys):
    run_training(recipe_of(pairs, tmp_path))
    told = "8 of 32 captions that the training read were longer than 12 tokens and cut off"
    assert told in capsys.readouterr().out and f"{told}." in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "result.json").read_text())["captions"] == {"read": 32, "cut_off": 8}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = [line["captions_cut_off"] for line in lines if "loss" in line]
    assert len(logged) == 4 and logged[1] == 4 and logged[-1] == 8


def test_a_resumed_run_counts_on(pairs, tmp_path):
    training = build_training(recipe_of(pairs, tmp_path))
    after_step = training.method.after_step

    def crash(outputs, progress):
        if progress.step == 2:
            raise Crash
        after_step(outputs, progress)

    training.method.after_step = crash
    with pytest.raises(Crash):
        train(training)
    notes = train(build_training(recipe_of(pairs, tmp_path)))
    assert notes["captions"] == {"read": 32, "cut_off": 8}


def test_the_cards_pipeline_takes_a_siglip_of_few_tokens(pairs, tmp_path, monkeypatch):
    run_training(recipe_of(pairs, tmp_path / "run", "siglip", SIGLIP))
    block = (tmp_path / "run/README.md").read_text().split("```python\n")[1].split("```")[0]
    assert "max_length" in block and "zero-shot" in block
    Image.new("RGB", (16, 16), "red").save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    *lines, last = block.strip().splitlines()
    names = {}
    exec("\n".join([*lines, f"answers = {last}"]), names)  # what a reader copies
    assert {answer["label"] for answer in names["answers"]} == {"a cat", "a dog"}
    with pytest.raises(ValueError, match="64"):
        pipeline("zero-shot-image-classification", "run")("image.jpg", candidate_labels=["a cat"])


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A tokenizer that states 12 tokens and pads on the left."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = train_tokenizer(["one long word after another", "a thing 3"] * 3, 600, 12)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    assert AutoTokenizer.from_pretrained(folder).padding_side == "left"
    return str(folder)


def test_an_explicit_length_counts_and_padding_is_on_the_right(pairs, tokenizer_folder, tmp_path):
    training = build_training(recipe_of(pairs, tmp_path, tokenizer=tokenizer_folder, max_length=40))
    assert training.captions.max_length == training.method.encoder.config.text_config.max_position_embeddings == 40
    tokens, cut_off = training.captions.tokenize(["one long word after another " * 5, "a thing 3"])
    assert cut_off == 0 and tokens["input_ids"].shape[1] > 12
    assert tokens["attention_mask"][1].tolist() == sorted(tokens["attention_mask"][1].tolist(), reverse=True)
    training.captions.tokenizer.save_pretrained(tmp_path / "published")
    published = AutoTokenizer.from_pretrained(tmp_path / "published")
    assert published.padding_side == "right" and published.model_max_length == 40
    stated = build_training(recipe_of(pairs, tmp_path / "stated", tokenizer=tokenizer_folder, max_length=None))
    assert stated.captions.max_length == 12


def test_an_explicit_length_that_the_tower_does_not_take_is_refused(pairs, tokenizer_folder, tmp_path):
    backbone = {**CLIP, "text_config": {**CLIP["text_config"], "max_position_embeddings": 20}}
    with pytest.raises(RecipeError, match="max_position_embeddings is 20, but texts have up to 40 tokens"):
        build_training(recipe_of(pairs, tmp_path, backbone=backbone, tokenizer=tokenizer_folder, max_length=40))


def test_without_a_length_texts_are_as_long_as_released_weights_take(pairs, tmp_path):
    tower = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    text = {**tower, "vocab_size": 600, "max_position_embeddings": 20, "eos_token_id": 599}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    train_tokenizer(["a thing"], 600, 77).save_pretrained(tmp_path)
    recipe = recipe_of(pairs, tmp_path / "run", backbone={"pretrained": str(tmp_path)}, max_length=None)
    rows = load_rows(pairs, captioned=True)
    assert build_captions(recipe, rows, Accelerator(cpu=True)).max_length == 20
