"""Runs on images whose channels are no colors: trained, evaluated, published, resumed, and read again by the commands."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from hfcontrast.commands import cli
from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training


@pytest.fixture
def folder(tmp_path):
    """Images of four channels, of two classes that the fourth tells apart."""
    random = np.random.default_rng(0)
    for number in range(60):
        place = tmp_path / "images" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (20, 20, 4), dtype=np.uint8)
        pixels[..., 3] = pixels[..., 3] // 4 + 100 * (number % 2)
        Image.fromarray(pixels, "RGBA").save(place / f"{number}.png")
    return tmp_path / "images"


def test_a_run_on_four_channels_and_what_it_publishes(recipe_file, folder, tmp_path, capsys):
    output = tmp_path / "run"
    own = [f"data.path={folder}", "data.split=train", "data.channels=4", f"train.output={output}", "train.steps=3"]
    run_training(load_recipe(recipe_file("simclr"), own))
    told = capsys.readouterr().out
    assert re.search(r"Speed: \S+ images/s; \d+\.\d% of the time was spent waiting", told)
    assert (
        "images: 4 channels (data.channels), normalized by" in told
        and "hue, grayscale and Sobel filters are left out" in told
    )
    encoder, processor = AutoModel.from_pretrained(output), AutoImageProcessor.from_pretrained(output)
    assert encoder.config.num_channels == 4 and len(processor.image_mean) == 4
    assert processor.image_mean[0] == pytest.approx(0.5, abs=0.02) and processor.image_mean[3] == pytest.approx(
        0.32, abs=0.03
    )
    image = np.array(Image.open(next(folder.glob("*/*.png"))))
    pixels = processor(image, return_tensors="pt", input_data_format="channels_last").pixel_values
    assert pixels.shape == (1, 4, 16, 16)
    assert "(H, W, 4) bytes" in (output / "README.md").read_text()
    assert json.loads((output / "checkpoints/channels.json").read_text())["mean"] == list(processor.image_mean)

    run_training(load_recipe(recipe_file("simclr"), [*own[:-1], "train.steps=4"]))  # resumed, and longer
    assert AutoImageProcessor.from_pretrained(output).image_mean == processor.image_mean

    assert cli.main(["embed", str(output), str(folder), "--output", str(tmp_path / "features")]) == 0
    assert json.loads((tmp_path / "features/manifest.json").read_text())["options"]["data.channels"] == 4
    shown = tmp_path / "scores.json"
    assert cli.main(["evaluate", str(output), str(folder), "--task", "knn", "--json", str(shown)]) == 0
    assert json.loads(shown.read_text())["counts"]["knn"]["accuracy"]["test_images"] == 12


def test_color_images_are_unreadable_then_and_methods_of_colors_are_refused(recipe_file, folder, tmp_path):
    own = [f"data.path={folder}", "data.split=train", "data.channels=4", f"train.output={tmp_path / 'run'}"]
    colors = load_recipe("colorization", own)
    with pytest.raises(RecipeError, match="'colorization' takes images of three channels alone, and these have 4"):
        run_training(colors)
    with pytest.raises(RecipeError, match="data.mean: expected a list of 4 numbers from 0 to 1 or null, got"):
        load_recipe(recipe_file("simclr"), [*own, "data.mean=[0.5,0.5,0.5]", "data.std=[0.2,0.2,0.2]"])
    assert "channels" not in load_recipe(recipe_file("simclr")).data.source()
    views = load_recipe(recipe_file("simclr"), own).resolved_views()
    assert {(view.saturation, view.hue, view.grayscale) for view in views} == {(0, 0, 0)}
    assert torch.tensor([view.brightness for view in views]).min() > 0
