"""What tests of all methods share: each method saved once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from trained_methods import trained


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """``saved(name)``: the folder that ``trained(name)`` was saved in; not to be changed."""
    root = tmp_path_factory.mktemp("methods")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            trained(name).save_pretrained(root / name)
        return root / name

    return folder
