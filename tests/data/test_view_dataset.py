"""ViewDataset: the views of a run for anybody's DataLoader, by sample, epoch and seed; workers see the epoch; what is refused."""

import pickle
from dataclasses import replace
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Image
from torch.utils.data import DataLoader

from hfcontrast.data import ColorAugmentation, TrainLoader, ViewDataset, load_rows
from hfcontrast.data.argument_names import as_arguments
from hfcontrast.data.captions import CaptionReader, all_captions, captions_of
from hfcontrast.data.sources import rows_of
from hfcontrast.data.tokenizer import train_tokenizer
from hfcontrast.errors import ArgumentError, DataError
from hfcontrast.methods.dino import DINO

VIEWS = tuple(replace(view, size=32 if view.size == 224 else 16) for view in DINO.views)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def rows():
    return load_rows("builtin/shapes", split="train[:24]")


def test_a_default_loader_gives_what_a_run_trains_on(rows):
    """The same rows of the same epoch, from torch's own loader with its own collate function: equal to the bit."""
    loader = TrainLoader(rows, VIEWS, batch_size=8, seed=3)
    augment = ColorAugmentation(VIEWS, MEAN, STD, channels_last=False)
    views = ViewDataset(rows, VIEWS, seed=3, mean=MEAN, std=STD)
    for number, raw in zip(range(4), loader):  # the fourth is of the second epoch
        expected = augment(raw, "cpu")
        views.set_epoch(number // 3)
        (batch,) = DataLoader(torch.utils.data.Subset(views, raw["index"].tolist()), batch_size=8)
        assert batch.keys() == expected.keys()
        for key, value in batch.items():
            assert torch.equal(value, expected[key]), key
    assert batch["pixel_values"].shape == (8, 2, 3, 32, 32) and batch["local_pixel_values"].shape == (8, 8, 3, 16, 16)
    assert batch["index"].shape == batch["labels"].shape == (8,)


def test_workers_that_live_on_see_the_epoch(rows):
    views = ViewDataset(rows, VIEWS)
    loader = DataLoader(views, batch_size=12, num_workers=1, persistent_workers=True)
    for epoch in (0, 3):
        views.set_epoch(epoch)
        seen = next(iter(loader))["pixel_values"]
        assert torch.equal(seen, torch.stack([views[row]["pixel_values"] for row in range(12)]))
    assert not torch.equal(seen[0], ViewDataset(rows, VIEWS)[0]["pixel_values"])


def test_workers_that_are_spawned_get_the_rows(rows, tmp_path):
    """They get the dataset by pickle: of a built-in set, a folder of images, files of a format and a stream alike."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes(_png(50 * number))
    folder = load_rows(str(tmp_path / "images"))
    folder.dataset.to_parquet(tmp_path / "rows.parquet")
    files = load_rows("parquet", data_files=str(tmp_path / "rows.parquet"), split="train[1:]")
    for given in (rows, folder, files):
        views = ViewDataset(given, VIEWS[:1])
        again = pickle.loads(pickle.dumps(views))
        assert torch.equal(again[1]["pixel_values"], views[1]["pixel_values"])
        assert np.array_equal(again.rows.identities(), given.identities())
    stream = load_rows(str(tmp_path / "images"), streaming=True)
    assert np.array_equal(pickle.loads(pickle.dumps(stream)).row_ids(), folder.identities())


def test_an_open_data_set_with_an_unreadable_image(caplog):
    """The row is named, and another one takes its place, the same one each time."""
    files = [_png(50 * number) for number in range(5)]
    files[2] = b"broken"
    dataset = Dataset.from_dict({"image": [{"bytes": file, "path": None} for file in files], "label": range(5)})
    dataset = dataset.cast_column("image", Image(decode=False))
    views = ViewDataset(dataset, VIEWS[:1], max_unreadable=0.5)
    first, again = views[2], views[2]
    assert int(first["index"]) == int(again["index"]) != 2 and int(first["labels"]) == int(first["index"])
    assert [record.message for record in caplog.records if "row 2" in record.message]
    strict = ViewDataset(dataset, VIEWS[:1], max_unreadable=0.1)
    with pytest.raises(DataError, match="1 of 5 rows of the data set cannot be read"):
        strict[2]


def test_what_has_no_rows_by_number_is_refused(rows):
    with pytest.raises(DataError, match="a stream has no rows by number"):
        ViewDataset(load_rows("builtin/shapes", streaming=True), VIEWS)
    with pytest.raises(DataError, match=r"take one, such as dataset\['train'\]"):
        ViewDataset(DatasetDict(train=rows.dataset), VIEWS)
    views = ViewDataset(rows, VIEWS)
    assert len(views) == 24 and int(views[-1]["index"]) == 23
    with pytest.raises(IndexError, match="no row 24 among 24"):
        views[24]


def test_images_in_memory_are_refused_with_what_makes_rows_of_them(tmp_path):
    """What the sentence says makes rows of images of Pillow, arrays and paths alike."""
    array = np.full((20, 20, 3), 50, np.uint8)
    (tmp_path / "a.png").write_bytes(_png(50))
    lists = [[PIL.Image.fromarray(array)], [array], [str(tmp_path / "a.png")]]
    found = []
    for given in (*lists, torch.zeros(2, 3, 20, 20), torch.utils.data.TensorDataset(torch.zeros(2)), 3):
        with pytest.raises(ArgumentError, match=f"rows: got {type(given).__name__}, expected a path, .* makes one"):
            ViewDataset(given, VIEWS)
        if isinstance(given, list):
            made = Dataset.from_dict({"image": given}, features=Features(image=Image()))
            found.append(ViewDataset(made, VIEWS[:1])[0]["pixel_values"])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_arguments_that_are_something_else_are_said(rows):
    with pytest.raises(ValueError, match="views: expected a list of View, got type: give its views, method.views"):
        ViewDataset(rows, DINO)
    for mean in (0.5, (0.5, 0.5), "abc", (0.5, None, 0.5)):
        with pytest.raises(ArgumentError, match="mean: got .*, expected one number for each of the 3 channels"):
            ViewDataset(rows, VIEWS, mean=mean)
    with pytest.raises(ArgumentError, match="a row is asked for by its number, and not by slice"):
        ViewDataset(rows, VIEWS)[0:2]
    for name in ("split", "image_column"):
        with pytest.raises(ArgumentError, match=f"{name}: "):
            ViewDataset(rows, VIEWS, **{name: "train"})


def test_errors_name_the_arguments_that_there_are(tmp_path):
    """Settings of a recipe, such as data.path, are none of a dataset of views."""
    images = [{"bytes": _png(50), "path": None}] * 2 + [{"bytes": b"broken", "path": None}]
    features = Features(left=Image(), right=Image(decode=False))
    dataset = Dataset.from_dict({"left": images[:1] * 3, "right": images}, features=features)
    with pytest.raises(DataError, match="cannot be read.* or raise max_unreadable"):
        ViewDataset(dataset, VIEWS[:1], image_column="right")[2]
    with pytest.raises(DataError, match="^rows /nowhere/at/all.png does not exist"):
        ViewDataset("/nowhere/at/all.png", VIEWS)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_bytes(_png(50))
    with pytest.raises(DataError, match="has no split 'other'.*: set split=train$"):
        ViewDataset(str(tmp_path), VIEWS, split="other")
    assert as_arguments("set data.data_dir, not my.data.path") == (
        "set data_dir of hfcontrast.data.load_rows, not my.data.path"
    )


def test_images_of_one_channel_have_views():
    gray = Dataset.from_dict({"image": [np.full((20, 20), 50, np.uint8)]}, features=Features(image=Image()))
    rows = rows_of(gray, 1, "gray")
    rows = replace(rows, reader=replace(rows.reader, channels=1))
    assert ViewDataset(rows, VIEWS[:1], mean=(0.5,), std=(0.5,))[0]["pixel_values"].shape == (1, 1, 32, 32)


def _png(level):
    PIL.Image.fromarray(np.full((20, 20, 3), level, np.uint8)).save(file := BytesIO(), "PNG")
    return file.getvalue()


def test_captions_are_read_as_in_a_run():
    rows = load_rows("builtin/shapes", split="train[:12]", captioned=True)
    texts = all_captions(captions_of(row, rows.captions) for row in rows.dataset)
    captions = CaptionReader(rows.captions, train_tokenizer(texts, 600, 16), max_length=16)
    loader = TrainLoader(rows, VIEWS[:1], batch_size=6, captions=captions)
    raw = next(iter(loader))
    views = ViewDataset(rows, VIEWS[:1], captions=captions)
    (batch,) = DataLoader(torch.utils.data.Subset(views, raw["index"].tolist()), batch_size=6)
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(batch[name], raw[name])
