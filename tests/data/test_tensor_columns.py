"""Columns that a method takes as arguments: in every batch as tensors, of map-style sets and of streams."""

import itertools

import pytest
import torch
from datasets import Dataset, Features, Image, List, Value

from hfcontrast.data import TrainLoader
from hfcontrast.data.sources import rows_of
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import FEATURES, encoded_images

COUNT = 12
COLUMNS = {
    "depth": [number / 2 for number in range(COUNT)],
    "boxes": [[number, number + 1] for number in range(COUNT)],
    "matrix": [[[number, 0], [0, number]] for number in range(COUNT)],
    "indoors": [number % 2 == 0 for number in range(COUNT)],
    "tag": [f"t{number}" for number in range(COUNT)],
}


def rows(names, streaming=False, **changed):
    columns = {"image": [{"bytes": data, "path": None} for data in encoded_images(COUNT)], "label": [1, 2, 0] * 4}
    features = {"depth": Value("float64"), "boxes": List(Value("int32")), "matrix": List(List(Value("float32")))}
    features |= {"indoors": Value("bool"), "tag": Value("string")}
    dataset = Dataset.from_dict(columns | COLUMNS | changed, features=Features(FEATURES | features))
    dataset = dataset.to_iterable_dataset(num_shards=2) if streaming else dataset
    return rows_of(dataset, COUNT, "the test rows", tensors=names)


def batches(some, count=2, size=4, **options):
    loader = TrainLoader(some, (View(size=8),), batch_size=size, workers=0, epoch_rows=COUNT, **options)
    return loader, list(itertools.islice(iter(loader), count))


@pytest.mark.parametrize("streaming", [False, True])
def test_what_a_step_takes_is_a_tensor_in_every_batch(streaming):
    names = ("depth", "boxes", "matrix", "indoors", "label")
    _, found = batches(rows(names, streaming), 3)
    kinds = {"depth": torch.float32, "boxes": torch.int64, "matrix": torch.float32, "indoors": torch.bool}
    for batch in found:
        places = [int(2 * depth) for depth in batch["depth"]]  # the depth says which row it is
        for name, kind in kinds.items():
            expected = torch.tensor([COLUMNS[name][place] for place in places], dtype=kind)
            assert batch[name].dtype == kind and torch.equal(batch[name], expected)
        assert batch["label"].tolist() == [[1, 2, 0][place % 3] for place in places] == batch["labels"].tolist()
    assert sorted(torch.cat([batch["depth"] for batch in found]).tolist()) == COLUMNS["depth"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_without_a_value_is_left_out_and_counted(streaming):
    some = rows(("depth",), streaming, depth=[None, *COLUMNS["depth"][1:]])
    loader, found = batches(some, 6, max_unreadable=0.2)
    assert not any(0.0 in batch["depth"] or batch["depth"].isnan().any() for batch in found)
    assert list(loader.unreadable.values()) == ["column 'depth' has no value"]


def test_rows_of_different_sizes_are_named():
    with pytest.raises(DataError, match="column 'boxes' cannot be stacked to a tensor, which takes values of one size"):
        batches(rows(("boxes",), boxes=[[1], *COLUMNS["boxes"][1:]]), 3)


@pytest.mark.parametrize(
    "name, words",
    [
        ("depht", "has no column of .did you mean 'depth'..; its columns are image, label, depth, boxes, matrix, indoors"),
        ("tag", "holds string values, which makes no tensor; columns of numbers are label, depth, boxes, matrix, indoors"),
        ("image", "holds image, which makes no tensor"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_batched_are_one_sentence(name, words):
    with pytest.raises(DataError, match=f"a step of the method takes '{name}', .*{words}"):
        rows((name,))


def test_images_of_further_columns_stay_what_they_are():
    """Lists, as for `hfcontrast embed --keep`, beside the tensors."""
    dataset = rows(()).dataset
    dataset = dataset.add_column("depth", COLUMNS["depth"]).add_column("note", COLUMNS["tag"])
    dataset = dataset.cast_column("image", Image(decode=False))
    some = rows_of(dataset, COUNT, "the test rows", columns=("note",), tensors=("depth",))
    _, (batch,) = batches(some, 1)
    assert batch["note"] == [COLUMNS["tag"][int(2 * depth)] for depth in batch["depth"]]
