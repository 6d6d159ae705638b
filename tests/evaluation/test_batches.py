"""Batches that leave near-duplicates of test images out."""

import io

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from hfcontrast.data.sources import rows_of
from hfcontrast.errors import DataError
from hfcontrast.evaluation import batches
from hfcontrast.evaluation.batches import Batches


def rows(seeds, broken=()):
    """Noise images with their seeds as labels."""
    files = []
    for seed in seeds:
        file, pixels = io.BytesIO(), np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).resize((40, 40)).save(file, "PNG")
        files.append({"bytes": b"broken" if seed in broken else file.getvalue(), "path": None})
    features = Features({"image": Image(), "label": Value("int64")})
    data = Dataset.from_dict({"image": files, "label": list(seeds)}, features=features)
    return rows_of(data, len(data), "noise")


def transform(images):
    return torch.stack([torch.tensor(np.asarray(image)).float().mean(dim=(0, 1)) for image in images])


def make(rows, **options):
    return Batches(rows, None, transform=transform, batch_size=4, size=40, **options)


@pytest.mark.parametrize("kept", [True, False])
def test_rows_whose_image_is_a_test_image_have_no_label(kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(batches, "CACHED_BYTES", 0)
    train, tests = rows(range(12), broken=(1,)), rows([20, 3, 21, 10])
    bank = make(train, tests=make(tests))
    assert bank.too_large != kept
    expected = [0, 2, -1, 4, 5, 6, 7, 8, 9, -1, 11]  # row 1 cannot be read
    for _ in range(2):
        assert torch.cat([labels for _, labels in bank()]).tolist() == expected and bank.left_out == 2
    assert bank.labels().tolist() == [0, 1, 2, -1, 4, 5, 6, 7, 8, 9, -1, 11]
    positions = [5, 0, 8]
    plain = torch.cat([pixels for pixels, _ in make(train)()])
    pixels, labels = next(bank.in_order(positions))
    assert labels.tolist() == positions and torch.equal(pixels, plain[[4, 0, 7]])


def test_without_test_images_all_rows_stay():
    train = make(rows(range(5)))
    assert torch.cat([labels for _, labels in train()]).tolist() == list(range(5)) and train.left_out == 0


def test_data_without_an_image_to_evaluate_on_is_refused():
    make(rows(range(5), broken=range(4))).check()
    with pytest.raises(DataError, match="none of its images can be read"):
        make(rows(range(5), broken=range(5))).check()
