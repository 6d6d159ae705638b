"""What a card's lines of Python give: run as a script in the folder of the published folders, on a machine without hfcontrast.

Usage: python card_reader.py IMAGE FOLDER...; writes found.json.
"""

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np


def read_card(name: str, image: str) -> dict[str, Any]:
    """Runs every block of Python of a card that gives features.

    Args:
        name: The published folder, as the card calls it: it lies in the working folder.
        image: The file that is put in place of the card's.

    Returns:
        ``model`` and, where the card shows one, ``pipeline``: the features (1, D) as lists, or the error.
    """
    card = Path(name, "README.md").read_text(encoding="utf-8").split("\n## Fine-tune\n")[0]
    names: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.+?)^```", card, re.MULTILINE | re.DOTALL):
        names.pop("features", None)
        names.pop("image_features", None)
        kind = "pipeline" if "pipeline(" in block else "model"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(block.replace("image.jpg", image), names)
        except Exception as error:
            found[kind] = f"{type(error).__name__}: {error}"
            continue
        features = names.get("features", names.get("image_features"))
        if features is not None:
            found[kind] = np.asarray(features).tolist()
    return found


if __name__ == "__main__":
    sys.modules["hfcontrast"] = None  # type: ignore[assignment]  # any import of it fails
    import torch

    torch.set_num_threads(1)
    cards = {folder: read_card(folder, sys.argv[1]) for folder in sys.argv[2:]}
    assert not [module for module in sys.modules if module.startswith("hfcontrast.")]
    Path("found.json").write_text(json.dumps(cards))
