"""Fixtures of the tests that compare."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))  # tiny_runs

from tiny_runs import RECIPES, REST


@pytest.fixture
def recipe_file(tmp_path):
    """Writes a tiny recipe; returns its path."""

    def write(name: str, method: str = "simclr", **changes: str) -> Path:
        text = RECIPES[method] + REST
        for old, new in changes.items():
            assert f"{old}: " in text
            start = text.index(f"{old}: ")
            text = text[:start] + f"{old}: {new}" + text[text.index("\n", start) :]
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def result():
    """Makes what a run's result.json holds."""

    def make(run, knn: float = 0.5, pixels: bool = False, **changes) -> dict:
        scores = {"untrained": {"knn_accuracy": 0.3, "feature_std": 0.2, "effective_rank": 2.0}}
        scores["trained"] = {
            "knn_accuracy": knn,
            "linear_accuracy": knn + 0.1,
            "feature_std": 0.9,
            "effective_rank": 7.0,
        }
        if pixels:
            scores["raw_pixels"] = {"knn_accuracy": 0.4, "linear_accuracy": 0.45}
        return {
            "method": run.recipe.method.name,
            "recipe_hash": run.hash,
            "seed": run.seed,
            "scores": scores,
            "evaluated_on": "builtin/digits (test)",
            "images_per_second": 1234.5,
            "peak_memory": 300 << 20,
            "device": "cpu",
            "processes": 1,
            "threads": 1,
            "precision": "fp32",
            "versions": {"torch": "2.99"},
            **changes,
        }

    return make
