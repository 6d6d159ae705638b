"""The quickstart: what `make quickstart` and the README's first recipe train, and that it shows a difference."""

import json
import re
from pathlib import Path

import pytest

from hfcontrast.run import main

ROOT = Path(__file__).parents[2]
RECIPE = "recipes/quickstart.yaml"


def test_make_and_readme_name_one_recipe():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Quickstart")[1]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").split("quickstart:")[-1]
    found = [re.search(r"accelerate launch -m hfcontrast.run (\S+)", text)[1] for text in (section, makefile)]
    assert found == [RECIPE, RECIPE]


@pytest.mark.slow
def test_the_encoder_is_twice_as_good_as_raw_pixels_and_the_untrained_one(tmp_path):
    assert main([str(ROOT / RECIPE), f"train.output={tmp_path / 'out'}", "train.device=cpu"]) == 0
    scores = json.loads((tmp_path / "out/result.json").read_text())["scores"]
    found = {name: scores[name]["knn_accuracy"] for name in ("raw_pixels", "untrained", "trained")}
    assert found["trained"] >= 2 * max(found["raw_pixels"], found["untrained"]), found
