"""A run on captions is published so that plain transformers classifies and embeds with it, on the very inputs of the training."""

import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from hfcontrast.data.decode import decode_image
from hfcontrast.data.sources import load_rows
from hfcontrast.evaluation.zero_shot import classify_rows
from hfcontrast.recipe import load_recipe
from hfcontrast.run import run
from hfcontrast.training.build import build_training

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TOWER, "patch_size": 8}
PAIR = {
    "model_type": "vision-text-dual-encoder",
    "projection_dim": 8,
    "vision": {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "text": {"model_type": "bert", **TOWER},
}
CASES = {
    "clip": (
        "clip",
        {"model_type": "clip", "projection_dim": 8, "text_config": TOWER, "vision_config": VISION},
        "CLIPModel",
    ),
    "siglip": ("siglip", {"model_type": "siglip", "text_config": TOWER, "vision_config": VISION}, "SiglipModel"),
    "pair": ("clip", PAIR, "VisionTextDualEncoderModel"),
}
PROMPTS = ["a plain red circle", "a striped blue square"]

ELSEWHERE = """
import sys
sys.modules["hfcontrast"] = None  # any import of it fails
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline
torch.set_num_threads(1)
root, prompts = sys.argv[1], sys.argv[2:]
found = {}
for name in ("clip", "siglip", "pair"):
    folder = f"{root}/{name}"
    processor = AutoProcessor.from_pretrained(folder)
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    pixels = processor(images=[Image.open(f"{root}/{i}.png") for i in range(4)], return_tensors="pt").pixel_values
    padding = "max_length" if name == "siglip" else "longest"
    tokens = processor(text=prompts, padding=padding, truncation=True, return_tensors="pt")
    with torch.no_grad():
        found[name] = {
            "class": type(model).__name__,
            "missing": sorted(info["missing_keys"]),
            "unexpected": sorted(info["unexpected_keys"]),
            "pixels": pixels,
            "input_ids": tokens.input_ids,
            "images": model.eval().get_image_features(pixel_values=pixels).pooler_output,
            "texts": model.get_text_features(**tokens).pooler_output,
        }
    classify = pipeline("zero-shot-image-classification", model=folder)
    found[name]["answers"] = classify(f"{root}/0.png", candidate_labels=prompts, hypothesis_template="{}")
assert not [name for name in sys.modules if name.startswith("hfcontrast.")]
torch.save(found, f"{root}/found.pt")
"""


def recipe_of(name, root):
    method, backbone, _ = CASES[name]
    return load_recipe(
        {
            "method": {"name": method},
            "backbone": backbone,
            "data": {"path": "builtin/shapes", "split": "test[:64]", "workers": 0},
            "text": {"vocab_size": 600, **({} if name == "siglip" else {"max_length": 24})},
            "views": {"all": {"size": 32, "scale": [1.0, 1.0]}},
            "train": {"batch_size": 16, "steps": 3, "device": "cpu", "output": str(root / name)},
            "eval": {"split": "train[:40]", "max_train": 40},
        }
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Three runs and what plain transformers finds in them, in a process that cannot import hfcontrast."""
    root = tmp_path_factory.mktemp("published")
    for number, row in enumerate(load_rows("builtin/shapes", split="test[:4]").dataset):
        decode_image(row["image"]["bytes"]).save(root / f"{number}.png")
    notes = {name: run(recipe_of(name, root)) for name in CASES}
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(root), *PROMPTS], check=True, env=environment)
    return root, notes, torch.load(root / "found.pt", weights_only=False)


@pytest.mark.parametrize("name", CASES)
def test_it_loads_as_the_native_model_with_nothing_missing(published, name):
    _, _, found = published
    assert found[name]["class"] == CASES[name][2]
    assert found[name]["missing"] == [] == found[name]["unexpected"]


@pytest.mark.parametrize("name", CASES)
def test_the_processor_gives_the_pixels_and_tokens_of_the_training(published, name, tmp_path):
    root, _, found = published
    training = build_training(recipe_of(name, tmp_path))
    by_row, tokens = {}, {}
    batches = training.loader.iter_from(0)
    for _ in range(training.loader.steps_per_epoch):
        batch = training.augmentation(next(batches), "cpu")
        by_row |= dict(zip(batch["index"].tolist(), batch["pixel_values"][:, 0], strict=True))
        tokens |= dict(zip(batch["index"].tolist(), batch["input_ids"], strict=True))
    fed = torch.stack([by_row[number] for number in range(4)])
    # Both resize bytes to bytes, with rounding of their own: at most two of 256 steps apart.
    assert (fed - found[name]["pixels"]).abs().max() <= 2.1 / 255 / min(training.std)
    assert (fed - found[name]["pixels"]).abs().mean() <= 0.3 / 255 / min(training.std)
    captions = [row["caption"] for row in training.rows.dataset.select(range(4))]
    tokenizer = training.captions.tokenizer
    for number, caption in enumerate(captions):
        expected = tokenizer(caption).input_ids
        assert tokens[number].tolist()[: len(expected)] == expected
    assert (
        tokenizer(PROMPTS[0]).input_ids == found[name]["input_ids"][0].tolist()[: len(tokenizer(PROMPTS[0]).input_ids)]
    )
    if name == "siglip":
        assert found[name]["input_ids"].shape == (2, 64) and {len(ids) for ids in tokens.values()} == {64}


@pytest.mark.parametrize("name", CASES)
def test_it_classifies_by_prompts_in_a_pipeline(published, name):
    _, _, found = published
    images, texts = (torch.nn.functional.normalize(found[name][kind], dim=1) for kind in ("images", "texts"))
    best = PROMPTS[int((images[0] @ texts.T).argmax())]
    assert found[name]["answers"][0]["label"] == best
    assert images.std(0).max() > 1e-4  # not all the same


def test_the_run_is_evaluated_by_names_and_captions(published):
    root, notes, _ = published
    for name in CASES:
        scores = notes[name]["trained"]
        assert {"knn_accuracy", "zero_shot_label", "image_to_text_r1", "text_to_image_r10"} <= scores.keys()
        card = (root / name / "README.md").read_text()
        assert "zero-shot-image-classification" in card and 'candidate_labels=["a cat", "a dog"]' in card
        assert "zero-shot label" in card and "image→text R@1" in card


def test_the_zero_shot_score_is_that_of_the_published_folder(published):
    from transformers import AutoModel, AutoProcessor

    root, notes, _ = published
    model, processor = (kind.from_pretrained(root / "clip") for kind in (AutoModel, AutoProcessor))
    rows = load_rows("builtin/shapes", split="train[:40]")
    assert classify_rows(model, processor, rows)["top1"] == pytest.approx(notes["clip"]["trained"]["zero_shot_label"])
    assert Image.open(root / "0.png").size == (64, 64)
