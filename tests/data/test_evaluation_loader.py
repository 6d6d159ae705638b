"""Evaluation batches: all rows in order on any process, without those that cannot be read."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image

from hfcontrast.data import Rows, evaluation_batches, load_rows
from hfcontrast.errors import DataError
from tests.data.conftest import encoded_images, rows_of


def shrink(images) -> torch.Tensor:
    assert all(image.mode == "RGB" for image in images)
    return torch.stack([torch.from_numpy(np.array(image.resize((4, 4)))).permute(2, 0, 1) / 255 for image in images])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("streaming", [False, True])
def test_rows_in_order_without_the_unreadable(workers, streaming, caplog):
    images = encoded_images(22)
    images[3] = images[16] = images[17] = images[18] = images[19] = b"broken"
    rows = rows_of(images)
    if streaming:
        rows = Rows(rows.dataset.to_iterable_dataset(num_shards=2), 22, rows.class_names, True, "the stream")
    caplog.set_level(logging.WARNING)
    batches = list(evaluation_batches(rows, shrink, 4, workers=workers))
    good = [number for number in range(22) if images[number] != b"broken"]
    assert torch.equal(torch.cat([labels for _, labels, _ in batches]), torch.tensor([n % 3 for n in good]))
    assert [count for *_, count in batches] == [3, 4, 4, 4, 2] and batches[0][0].shape == (3, 3, 4, 4)
    expected = torch.cat([p for p, *_ in evaluation_batches(rows_of([images[n] for n in good]), shrink, 99)])
    assert torch.equal(torch.cat([pixel_values for pixel_values, *_ in batches]), expected)
    assert "5 images" in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_limit_and_rows_without_labels(streaming):
    rows = load_rows("builtin/digits", split="test", streaming=streaming)
    batches = list(evaluation_batches(rows, shrink, 8, limit=20))
    assert sum(count for *_, count in batches) == 20
    unlabeled = Rows(rows.dataset.remove_columns("label"), 355, None, streaming, "digits")
    assert next(evaluation_batches(unlabeled, shrink, 8))[1] is None


def test_global_randomness_is_left_alone():
    before = torch.get_rng_state()
    list(evaluation_batches(rows_of(encoded_images(4)), shrink, 2, workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_page_of_a_stream_names_the_file(tmp_path):
    rng, files = np.random.default_rng(0), [str(tmp_path / f"{number}.parquet") for number in range(2)]
    for file in files:
        image = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(image, "png")
        rows = Dataset.from_dict(
            {"image": [{"bytes": image.getvalue(), "path": None}] * 8}, Features({"image": ImageColumn()})
        )
        rows.to_parquet(file)
    whole = bytearray(Path(files[1]).read_bytes())
    whole[4:40] = b"\xff" * 36
    Path(files[1]).write_bytes(whole)
    source = {"path": "parquet", "data_files": {"train": files}}
    with pytest.raises(DataError, match=r"cannot be read further after 8 rows: .*1\.parquet"):
        list(evaluation_batches(load_rows(**source, streaming=True), lambda images: torch.zeros(len(images), 1), 4))
    with pytest.raises(DataError, match=r"cannot be opened.*1\.parquet"):
        load_rows(**source)
