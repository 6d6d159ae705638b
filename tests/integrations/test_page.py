"""The page "In your own loop": its blocks are run as they stand, on small data."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BitImageProcessor

from hfcontrast.encoders.build import build_encoder
from hfcontrast.encoders.subconfig import whole_config
from hfcontrast.testing.small import TINY_BACKBONE

PAGE = Path(__file__).parents[2] / "docs" / "in-your-own-loop.md"
SMALLER = {  # what a reader has, and what is small
    "size=112": "size=32",
    "queue_size=4096": "queue_size=8",
    "epochs = 100": "epochs = 2",
    "num_train_epochs=100": "num_train_epochs=2",
    "max_epochs=100": "max_epochs=2",
    "batch_size=64": "batch_size=4",
    "num_workers=4": "num_workers=0",
    "save_steps=500": "save_steps=500, use_cpu=True, report_to=[]",
    'default_root_dir="outputs/lightning"': 'default_root_dir="outputs/lightning", accelerator="cpu", logger=False',
}


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """The page's blocks by their headings, for a small encoder and eight images."""
    monkeypatch.chdir(tmp_path)
    build_encoder(whole_config(TINY_BACKBONE, "dinov2")).save_pretrained("encoder")
    BitImageProcessor().save_pretrained("encoder")
    for number in range(8):
        folder = Path("images", "ab"[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    text = PAGE.read_text(encoding="utf-8").replace("facebook/dinov2-small", "encoder").replace("/my/images", "images")
    for old, new in SMALLER.items():
        assert old in text, old
        text = text.replace(old, new)
    return dict(re.findall(r"^## (.+?)$.*?^```python\n(.*?)^```$", text, re.M | re.S))


def run(blocks, *headings):
    space = {}
    for heading in headings:
        exec(compile(blocks[heading], heading, "exec"), space)
    return space


START = ("From an encoder to a method", "The views of your images")


@pytest.mark.parametrize("heading", ["A loop of your own", "transformers' Trainer", "Lightning"])
def test_a_block_is_run(heading, blocks):
    if heading == "Lightning":
        pytest.importorskip("lightning")
    space = run(blocks, *START, heading)
    method, encoder = space["method"], space["encoder"]
    fresh = type(method).from_encoder(encoder, views=space["smaller"], queue_size=8)
    batch = next(iter(space["loader"]))
    assert batch["pixel_values"].shape == (4, 2, 3, 32, 32) and set(batch) == {"pixel_values", "index", "labels"}
    for part in ("encoder", "momentum_encoder", "momentum_head"):
        own, other = (next(getattr(model, part).parameters()) for model in (method, fresh))
        assert not torch.equal(own, other), part
    assert method.queue.filled == 8 and space["views"].epoch == 1
