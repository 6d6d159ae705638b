"""Colors are left alone where they tell labeled images apart, and only there."""

import numpy as np
import pytest
from PIL import Image

from hfcontrast.data import load_rows
from hfcontrast.planning.choice import choose
from hfcontrast.planning.color_information import ColorInformation, accuracy, color_information
from hfcontrast.planning.images import ImageFacts
from hfcontrast.planning.kinds import KINDS
from hfcontrast.planning.machine import Machine
from hfcontrast.planning.telling import five_lines
from hfcontrast.recipe import load_recipe

CLASSES, EACH = 4, 60
DECISIVE = ColorInformation(400, 0.7, 0.4)


def painted(folder, by_color):
    """Class folders of gray images with a square: of the class's color at any place, or at the class's place in any color."""
    draws = np.random.default_rng(0)
    corners = [(0, 0), (0, 32), (32, 0), (32, 32)]
    colors = [(230, 40, 40), (40, 200, 40), (40, 40, 230), (230, 210, 30)]
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(EACH):
            pixels = (
                np.clip(draws.normal(draws.uniform(40, 200), 10, (48, 48, 1)), 0, 255)
                .repeat(3, axis=2)
                .astype(np.uint8)
            )
            y, x = draws.integers(33, size=2) if by_color else corners[label]
            pixels[y : y + 16, x : x + 16] = colors[label] if by_color else draws.integers(256, size=3)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{number}.png")
    return load_rows("imagefolder", data_dir=str(folder))


@pytest.mark.parametrize("by_color", [True, False])
def test_colors_that_tell_classes_apart_are_seen(tmp_path, by_color):
    found = color_information(painted(tmp_path, by_color))
    assert found.images == CLASSES * EACH * 4 // 5  # without those that an evaluation may hold out
    assert found.decisive is by_color
    assert (found.by_colors > 0.9) is by_color


def test_too_few_images_and_none_with_labels_say_nothing(tmp_path):
    rows = painted(tmp_path, by_color=True)
    assert color_information(rows.select(range(90))) is None
    for file in tmp_path.glob("*/*.png"):
        file.rename(tmp_path / f"{file.parent.name}{file.name}")
    assert color_information(load_rows("imagefolder", data_dir=str(tmp_path))) is None


def test_unreadable_images_are_left_out(tmp_path):
    painted(tmp_path, by_color=True)
    for number in range(20):
        (tmp_path / "class0" / f"{number}.png").write_bytes(b"no image")
    found = color_information(load_rows("imagefolder", data_dir=str(tmp_path)))
    assert 100 < found.images < CLASSES * EACH * 4 // 5 and found.decisive


def test_features_without_labels_in_them_are_at_chance():
    draws = np.random.default_rng(0)
    assert accuracy(draws.normal(size=(400, 8)), draws.integers(4, size=400)) == pytest.approx(0.25, abs=0.08)


def test_the_views_leave_such_colors_alone_unless_told_otherwise():
    recipe, facts = load_recipe("photos/simclr"), ImageFacts(3000, classes=("apple", "lemon"), colors=DECISIVE)
    chosen = choose(facts, Machine("cpu"), recipe)
    assert chosen.kind == "colors" and chosen.settings["views.view.hue"] == chosen.settings["views.view.grayscale"] == 0
    line = five_lines(facts, Machine("cpu"), chosen, recipe, "photos/simclr", picked=True)[2]
    assert "kNN accuracy of 400 of them 70% by their colors alone, 40% by their pixels" in line
    told = choose(facts, Machine("cpu"), recipe, kind="photographs")
    assert told.kind == "photographs" and "views.view.hue" not in told.settings
    other = ImageFacts(3000, classes=("shirt", "shoe"), colors=ColorInformation(400, 0.45, 0.4))
    assert choose(other, Machine("cpu"), recipe).kind == "photographs"


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_makes_colors_stronger_than_the_recipe(kind):
    recipe = load_recipe("photos/mae")
    settings = choose(ImageFacts(3000), Machine("cpu"), recipe, kind=kind).settings
    for name, view in recipe.views.items():
        for key in ("brightness", "contrast", "saturation", "hue", "grayscale"):
            assert settings.get(f"views.{name}.{key}", 0) <= view[key]
