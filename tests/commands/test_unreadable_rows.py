"""Training, `embed`, evaluation and `bench` count and name the same unreadable rows, read by number or as a stream."""

import logging
import re

import pyarrow
import pyarrow.parquet
import pytest
import torch
from datasets import ClassLabel, Features, Image

from hfcontrast.benchmarks.loader import loader_speed, torchvision_chain_speed
from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.embed_data import embed
from hfcontrast.data import TrainLoader, evaluation_batches, load_rows
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images

VIEWS = (View(size=8),)
FEATURES = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
BROKEN = {
    3: None,
    7: {"bytes": b"", "path": None},
    11: {"bytes": b"", "path": None},
    13: {"bytes": b"broken", "path": None},
    17: {"bytes": b"broken", "path": None},
    23: {"bytes": None, "path": None},
    25: {"bytes": None, "path": "http://127.0.0.1:9/a.png"},  # where nobody listens
    27: {"bytes": None, "path": "http://127.0.0.1:9/a.png"},
    29: {"bytes": None, "path": "nothing-of-the-kind://a.png"},
    31: {"bytes": None, "path": f"zip://a.png::{__file__}"},  # no zip
    33: {"bytes": None, "path": "oci://bucket/a.png"},  # whose library is not installed
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> dict:
    """Arguments that open 40 rows in two files, with every kind of row that holds no image that can be read."""
    folder, images = tmp_path_factory.mktemp("rows"), encoded_images(40)
    rows = [{"image": BROKEN.get(i, {"bytes": images[i], "path": None}), "label": i % 2} for i in range(40)]
    for number in (0, 1):
        table = pyarrow.Table.from_pylist(rows[20 * number : 20 * number + 20], schema=FEATURES.arrow_schema)
        pyarrow.parquet.write_table(table, folder / f"{number}.parquet")
    return {"path": "parquet", "data_files": str(folder / "*.parquet"), "open_addresses": True}


def train(source: dict, state: dict | None = None, **options) -> TrainLoader:
    """A loader after two passes or more."""
    loader = TrainLoader(load_rows(**source), VIEWS, batch_size=4, max_unreadable=1.0, cache=False, **options)
    if state:
        loader.load_state_dict(state)
    batches = iter(loader)
    for _ in range(24):
        next(batches)
    batches.close()
    return loader


@pytest.mark.parametrize("streaming", [False, True])
def test_training_counts_every_row_once(source, streaming, caplog):
    source = source | {"streaming": streaming}
    loader = train(source, workers=0)
    assert {int(name.split()[1]) for name in loader.unreadable} == set(BROKEN) and len(loader.unreadable) == 11
    assert len(caplog.records) == 11
    assert "row 25 (http://127.0.0.1:9/a.png): cannot be read: http://127.0.0.1:9/a.png: Cannot conn" in caplog.text
    resumed = train(source, loader.state_dict(), workers=0)
    assert resumed.unreadable == loader.unreadable and len(caplog.records) == 11
    assert train(source, workers=2).unreadable.keys() == loader.unreadable.keys()


@pytest.mark.parametrize("streaming", [False, True])
def test_two_processes_count_together(source, streaming):
    source = source | {"streaming": streaming}
    loaders = [train(source, workers=0, num_processes=2, process_index=rank) for rank in (0, 1)]
    reports = [loader._unreadable.report() for loader in loaders]
    for loader in loaders:
        loader.count_together(lambda own: reports)
        assert {int(name.split()[1]) for name in loader.unreadable} == set(BROKEN) and len(loader.unreadable) == 11


@pytest.mark.parametrize("streaming", [False, True])
def test_evaluation_names_the_rows_by_their_places_in_the_split(source, streaming, caplog):
    caplog.set_level(logging.WARNING)
    rows = load_rows(**source, streaming=streaming)
    assert sum(kept for *_, kept in evaluation_batches(rows, lambda images: torch.zeros(len(images)), 8)) == 29
    assert (
        f"11 images of {rows.description} left out" in caplog.text
        and "e.g. row 3: the row holds no image; row 7: cannot be" in caplog.text
    )
    caplog.clear()
    list(evaluation_batches(rows, lambda images: torch.zeros(len(images)), 8))
    assert not caplog.records  # told already
    rows = load_rows(**source, streaming=streaming)
    part = rows.where(lambda place: place % 2 == 1).where(lambda place: place >= 5)  # 11, 13, 15, ...
    list(evaluation_batches(part, lambda images: torch.zeros(len(images)), 8))
    assert f"9 images of {rows.description}" in caplog.text and re.findall(r"row (\d+)", caplog.text) == [
        "11",
        "13",
        "17",
    ]


def test_rows_that_an_evaluation_found_count_in_the_training_once(source, caplog):
    rows = load_rows(**source)
    list(evaluation_batches(rows.where(lambda place: place > 20), lambda images: torch.zeros(len(images)), 8))
    loader = TrainLoader(rows, VIEWS, batch_size=4, max_unreadable=0.2, cache=False, workers=0)
    loader._unreadable.add({})
    assert loader.unreadable == rows.unreadable and len(loader.unreadable) == 6
    caplog.clear()
    with pytest.raises(DataError, match=r"9 of 40 rows of \S+\.parquet \(split train\) cannot be read"):
        loader._unreadable.add(dict.fromkeys(["row 3", "row 7", "row 11", "row 23"], "no image"))
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["row 3", "row 7", "row 11", "row 23"]


@pytest.mark.parametrize("streaming", [False, True])
def test_embed_and_bench(source, streaming, vit_folder, tmp_path):
    data = DataSource(**source, streaming=streaming)
    told = embed(vit_folder, data, tmp_path)
    assert told["unreadable_images"] == 11 and told["parts"][0]["examples"][0] == "row 3: the row holds no image"
    rows, known = load_rows(**source, streaming=streaming), {}
    assert loader_speed(rows, VIEWS, (0.5,) * 3, (0.5,) * 3, 0.05, known) > 0
    assert {int(name.split()[1]) for name in known} == set(BROKEN)
    assert torchvision_chain_speed(rows, VIEWS, (0.5,) * 3, (0.5,) * 3, 0.05) > 0
