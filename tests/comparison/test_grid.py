"""A comparison as a grid: pairs of recipes with the settings of both, one table and one heat map for each headline figure."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfcontrast.commands.cli import main
from hfcontrast.comparison.grid import grid_cells, grids_of
from hfcontrast.comparison.heat_map import heat_map
from hfcontrast.comparison.plan import plan
from hfcontrast.comparison.table import as_markdown, summarize, write_table
from hfcontrast.errors import RecipeError

AUGMENTATIONS = Path(__file__).parents[2] / "recipes/comparison/augmentations"


@pytest.fixture
def files(tmp_path):
    """Three recipes and what they share."""
    texts = {
        "common": "backbone: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}\n"
        "data: {path: builtin/digits}\nviews: {all: {size: 8, jitter: 0, grayscale: 0}}\ntrain: {steps: 2, batch_size: 8}\n",
        "gray": "method: {name: simclr}\nviews: {view: {grayscale: 1.0}}\n",
        "noise": "method: {name: simclr}\nviews: {view: {noise: 1.0, noise_std: [0.1, 0.2]}}\n",
        "turned": "method: {name: simclr}\nviews: {view: {rotate: 0.75}}\noptim: {lr: 0.1}\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return [tmp_path / f"{name}.yaml" for name in texts]


def test_a_pair_has_the_settings_of_both(files, tmp_path):
    runs = {run.name: run for run in plan(files, ["train.steps=3"], tmp_path / "out", grid=True)}
    assert list(runs) == ["gray", "noise", "turned", "gray+noise", "gray+turned", "noise+turned"]
    pair = runs["noise+turned"]
    view = pair.recipe.views["view"]
    assert (view["noise"], view["noise_std"], view["rotate"], view["grayscale"]) == (1.0, [0.1, 0.2], 0.75, 0.0)
    assert (view["size"], pair.recipe.optim.lr, pair.recipe.train.steps) == (8, 0.1, 3)
    assert pair.folder == tmp_path / "out/noise+turned" and len({run.hash for run in runs.values()}) == 6
    seeds = plan(files, [], tmp_path / "out", [0, 1], grid=True)
    assert [run.folder.name for run in seeds if run.name == "gray+noise"] == ["gray+noise_seed0", "gray+noise_seed1"]


def test_what_makes_no_grid_is_refused(files, tmp_path):
    with pytest.raises(RecipeError, match="--grid trains every pair of recipes, and there is only one"):
        plan(files[:2], [], tmp_path / "out", grid=True)
    files[1].write_text(files[1].read_text() + "optim: {lr: 0.2}\n")
    with pytest.raises(RecipeError, match=r"gray.yaml and .*turned.yaml set optim.lr, to 0.2 and 0.1"):
        plan(files, [], tmp_path / "out", grid=True)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("common", "noise"):
        (other / f"{name}.yaml").write_text((tmp_path / f"{name}.yaml").read_text())
    with pytest.raises(RecipeError, match="have different common settings: name one file with --common"):
        plan([files[3], other / "noise.yaml"], [], tmp_path / "out", grid=True)


@pytest.fixture
def summary(files, tmp_path, result):
    """Five of six runs are finished."""
    runs = plan(files, [], tmp_path / "out", grid=True)
    for number, run in enumerate(runs[:5]):
        run.result = result(run, knn=0.1 * (number + 1), pixels=number == 0)
    return summarize(runs, [], grid=True)


def test_the_grid_is_symmetric_and_has_the_means_of_its_lines(summary):
    knn, probe = summary["grids"]
    assert (knn["key"], probe["key"], knn["names"]) == ("knn_accuracy", "linear_accuracy", ["gray", "noise", "turned"])
    assert np.allclose(
        np.array(knn["values"], dtype=float), [[0.1, 0.4, 0.5], [0.4, 0.2, np.nan], [0.5, np.nan, 0.3]], equal_nan=True
    )
    assert np.allclose(knn["means"], [1 / 3, 0.3, 0.4])
    assert knn["baselines"] == {"raw pixels": 0.4, "untrained encoder": pytest.approx(0.3)}
    assert grid_cells(probe)[1:] == [
        ["gray", "20.0", "50.0", "60.0", "43.3"],
        ["noise", "50.0", "30.0", "–", "40.0"],
        ["turned", "60.0", "–", "40.0", "50.0"],
    ]
    text = as_markdown(summary)
    assert "| gray | 10.0 | 40.0 | 50.0 | 33.3 |" in text and "(raw pixels 40.0, untrained encoder 30.0)" in text
    assert grids_of([], ["gray", "noise"]) == []


def test_the_heat_map_is_brightest_where_the_figure_is_highest(summary, tmp_path):
    grid = summary["grids"][0]
    image = np.asarray(Image.open(io.BytesIO(heat_map(grid))).convert("RGB")).astype(int)
    colors = {tuple(color) for color in image.reshape(-1, 3)}
    assert {(68, 1, 84), (253, 231, 37), (225, 225, 225)} <= colors  # lowest, highest, not known
    equal = grid | {"values": [[0.5] * 3] * 3, "means": [0.5] * 3}
    assert heat_map(equal)[:4] == b"\x89PNG"
    write_table(summary, tmp_path)
    assert (tmp_path / "grid_knn_accuracy.png").read_bytes() == heat_map(grid)
    assert json.loads((tmp_path / "table.json").read_text())["grids"][0]["names"] == grid["names"]


def test_without_the_option_nothing_is_added(files, tmp_path, result):
    runs = plan(files, [], tmp_path / "out")
    runs[0].result = result(runs[0])
    assert len(runs) == 3 and "grids" not in summarize(runs, [])
    write_table(summarize(runs, []), tmp_path)
    assert not list(tmp_path.glob("grid*"))


def test_the_command_takes_the_option(monkeypatch):
    given = []
    monkeypatch.setattr("hfcontrast.comparison.compare.compare", lambda *arguments: given.append(arguments) or 0)
    assert main(["compare", "a.yaml", "b.yaml", "--grid"]) == 0
    assert main(["compare", "a.yaml"]) == 0
    assert [arguments[-1] for arguments in given] == [True, False]


def test_the_recipes_of_simclrs_figure_5(tmp_path):
    runs = {
        run.name: run.recipe.views["view"]
        for run in plan(sorted(AUGMENTATIONS.glob("*.yaml")), [], tmp_path, grid=True)
    }
    assert len(runs) == 28 and all((view["count"], view["unaugmented"]) == (2, 1) for view in runs.values())
    on = {"blur": "blur", "cutout": "cutout", "noise": "noise", "rotate": "rotate", "sobel": "sobel", "color": "jitter"}
    for name, view in runs.items():
        parts = name.split("+")
        assert (view["scale"] != [1.0, 1.0], view["horizontal_flip"] > 0) == (("crop" in parts),) * 2
        assert [part for part in on if view[on[part]]] == [part for part in on if part in parts]
