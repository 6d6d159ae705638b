"""Fixtures of the tests that train."""

from pathlib import Path

import pytest
from tiny_runs import RECIPES, REST


@pytest.fixture
def recipe_file(tmp_path):
    """Writes a tiny recipe of a method; returns its path."""

    def write(method: str) -> Path:
        path = tmp_path / f"{method}.yaml"
        path.write_text(RECIPES[method] + REST)
        return path

    return write
