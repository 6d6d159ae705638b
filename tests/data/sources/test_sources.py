"""Rows are opened from every kind of source, with the right columns, and mistakes are named."""

import io
import tarfile

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hfcontrast.data import TrainLoader, available_splits, load_rows
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images, rows_of

VIEWS = (View(size=8),)


def first_batch(rows, **options):
    return next(iter(TrainLoader(rows, VIEWS, batch_size=4, workers=0, epoch_rows=4, **options)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An imagefolder with two classes and two splits."""
    root = tmp_path_factory.mktemp("folder")
    for number, data in enumerate(encoded_images(12)):
        place = root / ("train" if number < 8 else "test") / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(data)
    return root


@pytest.fixture
def saved(tmp_path):
    """Saves a data set to disk and opens it as rows."""

    def save_and_open(dataset: Dataset, **options):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        dataset.save_to_disk(place)
        return load_rows(str(place), **options)

    return save_and_open


@pytest.mark.parametrize("streaming", [False, True])
def test_imagefolder(folder, streaming):
    rows = load_rows(str(folder), streaming=streaming)
    assert rows.class_names == ["cat", "dog"] and rows.streaming == streaming and rows.labeled
    assert rows.num_rows == 8 or (streaming and rows.num_rows is None)  # a stream may know from an earlier look
    assert list(rows.dataset.features) == ["image", "label"] and rows.dataset.features["image"] == Image(decode=False)
    batch = first_batch(rows)
    assert set(batch["labels"].tolist()) <= {0, 1} and batch["pixel_values"].shape == (4, 1, 8, 8, 3)
    assert load_rows("imagefolder", data_dir=str(folder), split="test").num_rows == 4
    assert available_splits(str(folder)) == ["train", "test"]


def test_parquet_keeps_features(shards):
    rows = load_rows("parquet", data_files={"train": f"{shards}/*.parquet"}, split="train[:25%]")
    assert rows.num_rows == 20 and rows.class_names == ["a", "b", "c"]
    stream = load_rows(shards, streaming=True)
    assert stream.dataset.num_shards == 4 and stream.class_names == ["a", "b", "c"]


@pytest.mark.parametrize("streaming", [False, True])
def test_webdataset(tmp_path, streaming):
    with tarfile.open(tmp_path / "train-000.tar", "w") as tar:
        for number, data in enumerate(encoded_images(6)):
            for name, content in ((f"{number}.png", data), (f"{number}.cls", str(number % 3).encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    rows = load_rows("webdataset", data_files={"train": str(tmp_path / "*.tar")}, streaming=streaming)
    assert list(rows.dataset.features) == ["image", "label"] and rows.class_names is None
    assert [row["label"] for row in rows.dataset] == [0, 1, 2, 0, 1, 2]
    assert first_batch(rows)["labels"].max() <= 2


def archive(path, count: int, first: int = 0, kind: str = "png", broken=()) -> list[int]:
    """Writes a tar of images with .cls; returns where each sample begins."""
    starts = []
    with tarfile.open(path, "w") as tar:
        for number, data in enumerate(encoded_images(count, seed=first), first):
            starts.append(tar.offset)
            ending = kind if isinstance(kind, str) else kind[number % len(kind)]
            data = b"broken" if number in broken else data
            for name, content in ((f"{number}.{ending}", data), (f"{number}.cls", b"1")):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return starts


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Tars of 40 samples that lose some in different ways, by name, with the number of whole samples in each."""
    folder = tmp_path_factory.mktemp("damaged")
    starts = archive(folder / "whole.tar", 40)
    data = (folder / "whole.tar").read_bytes()
    kinds = {
        "boundary": (data[: starts[31]], 31),
        "header": (data[: starts[31] + 100], 31),
        "pixels": (data[: starts[31] + 700], 31),
        "label": (data[: starts[32] - 500], 32),  # whose last image is whole, though its label is lost
        "junk": (data[: starts[31]] + b"\x07" * 5000 + data[starts[31] + 5000 :], 31),
        "joined": (data + data, 40),
    }
    for name, (content, _) in kinds.items():
        (folder / f"{name}.tar").write_bytes(content)
    return {name: (folder / f"{name}.tar", whole) for name, (_, whole) in kinds.items()}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["boundary", "header", "pixels", "label", "junk", "joined"])
def test_what_an_archive_has_lost_counts_as_unreadable(damaged, kind, streaming):
    path, whole = damaged[kind]
    rows = load_rows("webdataset", data_files={"train": str(path)}, streaming=streaming)
    assert len(list(rows.dataset)) == whole + 1 and rows.dataset.features["label"].dtype == "int64"
    options = {"batch_size": 8, "workers": 0, "cache": False, "epoch_rows": whole}
    loader = TrainLoader(rows, VIEWS, max_unreadable=0.05, **options)
    for _ in zip(range(12), loader):
        pass
    ((name, cause),) = loader.unreadable.items()
    assert name.startswith(f"row {whole} (") and f"{kind}.tar is cut off or damaged after {whole} samples" in cause
    with pytest.raises(DataError, match=f"1 of {whole + 1} rows"):
        for _ in zip(range(12), TrainLoader(rows, VIEWS, max_unreadable=0.01, **options)):
            pass


def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.tar is not a tar archive that can be read: empty file"):
        load_rows("webdataset", data_files=str(tmp_path / "a.tar"), streaming=True)
    archive(tmp_path / "a.tar", 4)
    (tmp_path / "b.tar").write_bytes(b"no archive at all")
    rows = load_rows("webdataset", data_files=str(tmp_path / "*.tar"), streaming=True)
    assert len(list(rows.dataset)) == 5 and b"b.tar is cut off" in list(rows.dataset)[-1]["image"]["bytes"]


def test_a_broken_image_in_an_archive_ends_no_stream(tmp_path, monkeypatch):
    """Nobody but the decoder of the loader opens an image: no library on the way."""
    archive(tmp_path / "a.tar", 12, broken=(11,))
    rows = load_rows("webdataset", data_files=str(tmp_path / "a.tar"), streaming=True)
    monkeypatch.setattr(Image, "decode_example", lambda *_, **__: pytest.fail("decoded by datasets"))
    assert [row["image"]["bytes"] for row in rows.dataset][-1] == b"broken"


@pytest.mark.parametrize("streaming", [False, True])
def test_labels_in_fields_and_as_texts(tmp_path, streaming, caplog):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, data in enumerate(encoded_images(6)):
            meta = b'{"place": {"label": %d, "name": "%s"}}' % (number % 3, [b"owl", b"cat"][number % 2])
            for name, content in ((f"{number}.jpg", data), (f"{number}.json", meta), (f"{number}.cls", meta[-6:-3])):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    options = {"path": "webdataset", "data_files": str(tmp_path / "a.tar"), "streaming": streaming}
    rows = load_rows(**options, label_column="json.place.label", columns=["json"])
    assert [row["label"] for row in rows.dataset] == [0, 1, 2, 0, 1, 2] and rows.columns == ("json",)
    with pytest.raises(DataError, match=r"no column 'json\.place\.lable'"):
        load_rows(**options, label_column="json.place.lable")
    found = load_rows(**options)
    named = load_rows(**options, label_column="json.place.name")
    if streaming:
        assert [row["label"] for row in named.dataset] == [row["label"] for row in found.dataset] == ["owl", "cat"] * 3
    else:
        assert found.class_names == named.class_names == ["cat", "owl"]
        assert [row["label"] for row in named.dataset] == [row["label"] for row in found.dataset] == [1, 0] * 3


def test_a_column_of_texts_called_label(saved, caplog):
    images = [{"bytes": data, "path": None} for data in encoded_images(6)]
    features = Features({"image": Image(), "label": Value("string")})
    words = ["b", "a", None, "b", "c", "b"]
    rows = saved(Dataset.from_dict({"image": images, "label": words}, features=features))
    assert rows.class_names == ["a", "b", "c"] and [row["label"] for row in rows.dataset] == [1, 0, None, 1, 2, 1]
    assert sorted(first_batch(rows)["labels"].tolist())[0] >= -1
    captions = saved(Dataset.from_dict({"image": images, "label": list("abcdef")}, features=features))
    assert not captions.labeled and "6 rows have 6 different ones; data.label_column=label insists" in caplog.text
    assert saved(captions.dataset.add_column("label", list("abcdef")), label_column="label").class_names == list(
        "abcdef"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_archives_with_several_kinds_of_images(tmp_path, streaming):
    archive(tmp_path / "a.tar", 12, kind=("jpg", "PNG", "webp"))
    files = {"path": "webdataset", "data_files": str(tmp_path / "a.tar"), "streaming": streaming}
    for rows in (load_rows(**files), load_rows(**files, image_column="jpg")):
        assert all(row["image"]["bytes"] for row in rows.dataset)


@pytest.mark.parametrize("streaming", [False, True])
def test_saved_to_disk(tmp_path, streaming):
    dataset = rows_of(encoded_images(10)).dataset
    dataset.save_to_disk(tmp_path / "one")
    DatasetDict(train=dataset, test=dataset.select(range(3))).save_to_disk(tmp_path / "several")
    assert load_rows(str(tmp_path / "one"), streaming=streaming).num_rows == 10
    rows = load_rows(str(tmp_path / "several"), split="test", streaming=streaming)
    assert rows.num_rows == 3 and rows.class_names == ["a", "b", "c"]
    assert available_splits(str(tmp_path / "several")) == ["train", "test"]
    labels = [row["label"] for row in load_rows(str(tmp_path / "several"), split="train[2:5]+test").dataset]
    assert labels == [2, 0, 1, 0, 1, 2]
    with pytest.raises(DataError, match=r"no split 'dev'; there are train, test"):
        load_rows(str(tmp_path / "several"), split="dev", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_built_in(streaming):
    rows = load_rows("builtin/digits", split="train[:50%]", streaming=streaming)
    assert rows.num_rows == 721 and len(rows.class_names) == 10
    assert first_batch(rows)["pixel_values"].float().std() > 10
    assert available_splits("builtin/shapes") == ["train", "test"]


def test_columns_are_found_renamed_and_dropped(saved):
    images = [{"bytes": data, "path": None} for data in encoded_images(4)]
    columns = {
        "photo": images, "other": images, "kind": [0, 1, 0, 1], "size": [5, 6, 7, 8], "text": ["x", "y", "x", "z"],
    }  # fmt: skip
    features = Features(
        {
            "photo": Image(),
            "other": Image(),
            "kind": ClassLabel(names=["p", "q"]),
            "size": Value("int64"),
            "text": Value("string"),
        }
    )
    dataset = Dataset.from_dict(columns, features=features)
    rows = saved(dataset)
    assert list(rows.dataset.features) == ["image", "label"] and rows.class_names == ["p", "q"]
    rows = saved(dataset, image_column="other", label_column="size", columns=["text", "photo"])
    assert set(rows.dataset.features) == {"image", "label", "text", "photo"} and rows.columns == ("text", "photo")
    assert rows.class_names is None
    batch = first_batch(rows)
    order = batch["index"].tolist()
    assert batch["labels"].tolist() == [5 + i for i in order] and batch["text"] == [columns["text"][i] for i in order]
    assert batch["photo"][0]["bytes"] == images[order[0]]["bytes"]
    rows = saved(dataset, label_column="text")
    assert rows.class_names == ["x", "y", "z"] and rows.dataset[3]["label"] == 2
    unlabeled = saved(dataset.remove_columns(["kind", "size"]))
    assert not unlabeled.labeled and "labels" not in first_batch(unlabeled)


def test_images_without_an_image_feature(saved):
    dataset = Dataset.from_dict({"jpg": encoded_images(4), "cls": [3, 1, 2, 0]})
    rows = saved(dataset)
    assert rows.dataset.features["image"] == Image(decode=False) and rows.dataset[0]["label"] == 3
    assert first_batch(rows)["pixel_values"].float().std() > 5


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_rows(str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="someone/nothing cannot be opened"):
        load_rows("someone/nothing")
    with pytest.raises(
        DataError,
        match="there is no builtin/shape; built in are builtin/colored_digits, builtin/digits, builtin/shapes",
    ):
        load_rows("builtin/shape")
    for streaming in (False, True):
        with pytest.raises(DataError, match="no split 'valid'; there are train, test"):
            load_rows(str(folder), split="valid", streaming=streaming)
    with pytest.raises(DataError, match=r"no split 'dev'; there are train, test"):
        load_rows("builtin/digits", split="dev[:10]")
    with pytest.raises(DataError, match="cannot be understood"):
        load_rows("builtin/digits", split="train[:ten]")
    with pytest.raises(DataError, match="stream has no slices"):
        load_rows(str(folder), split="train[:3]", streaming=True)
    with pytest.raises(DataError, match=r"no column 'lable' \(did you mean 'label'\?\); its columns are image, label"):
        load_rows(str(folder), label_column="lable")
    with pytest.raises(DataError, match="holds no images"):
        load_rows("builtin/digits", image_column="label")
    with pytest.raises(DataError, match="holds no class labels"):
        load_rows("builtin/shapes", split="test", label_column="objects")
    with pytest.raises(DataError, match="is empty"):
        load_rows("builtin/digits", split="train[:0]")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.csv").write_text("word,number\nx,1\n")
    with pytest.raises(DataError, match="no column of images; its columns are word, number"):
        load_rows(str(tmp_path / "notes"))
    for streaming in (False, True):
        with pytest.raises(DataError, match="notes holds no images"):
            load_rows("imagefolder", data_dir=str(tmp_path / "notes"), streaming=streaming)
    with pytest.raises(DataError, match="data.data_dir .*/nowhere does not exist"):
        load_rows("imagefolder", data_dir=str(tmp_path / "nowhere"))


def test_select():
    rows = load_rows("builtin/digits", split="test").select(np.arange(5))
    assert rows.num_rows == 5 == len(rows.dataset) and rows.class_names[9] == "9"


def test_a_stream_of_files_knows_its_length_and_its_rows_can_be_chosen(tmp_path):
    Dataset.from_dict({"image": [b"png"] * 7, "label": list(range(7))}).to_parquet(tmp_path / "a.parquet")
    Dataset.from_dict({"image": [b"png"] * 3, "label": [7, 8, 9]}).to_parquet(tmp_path / "b.parquet")
    rows = load_rows("parquet", data_files=str(tmp_path / "*.parquet"), streaming=True, image_column="image")
    assert rows.num_rows == 10
    chosen = rows.where(lambda i: i % 3 == 1, limit=8)
    assert chosen.num_rows == 3 and [row["label"] for row in chosen.dataset] == [1, 4, 7]
