"""Names of folders and files that datasets would take for patterns or addresses, or the disk has in another form."""

import unicodedata

import pytest
from datasets import Dataset

from hfcontrast.data import Source, available_splits, load_rows
from hfcontrast.errors import DataError
from tests.data.conftest import FEATURES, encoded_images


def write_parquet(folder):
    folder.mkdir(parents=True)
    columns = {"image": [{"bytes": image, "path": None} for image in encoded_images(3)], "label": [0, 1, 2]}
    Dataset.from_dict(columns, features=FEATURES).to_parquet(folder / "rows.parquet")


@pytest.mark.parametrize("name", ["My [2024]", "写真: é*? #1 100%25"])
def test_a_folder_with_any_name_is_opened(tmp_path, name):
    folder = tmp_path / unicodedata.normalize("NFD", name)
    write_parquet(folder)
    write_parquet(tmp_path / "My 2")  # what the first name means as a pattern
    named = f"{tmp_path}/{name}"
    for source in (
        Source(named),
        Source("parquet", data_dir=named),
        Source("parquet", data_files=f"{named}/rows.parquet"),
        Source("parquet", data_files={"train": [f"{named}/*.parquet"]}),
        Source("parquet", data_dir=named, data_files="*.parquet"),
        Source(str(tmp_path), data_dir=name),
        Source(str(tmp_path), data_files=f"{name}/*.parquet"),
    ):
        assert available_splits(source) == ["train"]
        assert load_rows(source, streaming=True).num_rows == 3
    for streaming in (False, True):
        rows = load_rows("parquet", data_dir=named, streaming=streaming)
        assert len([rows.reader.pixels(row["image"]) for row in rows.dataset]) == 3


def test_files_that_rows_name_are_opened_in_such_a_folder(tmp_path):
    folder = tmp_path / "a [1] # é"
    folder.mkdir()
    for number, image in enumerate(encoded_images(3)):
        (folder / f"{number}.png").write_bytes(image)
    (folder / "rows.csv").write_text("image\n" + "".join(f"{folder}/{number}.png\n" for number in range(3)))
    for files in (f"{folder}/rows.csv", f"{folder}/*.csv"):
        rows = load_rows("csv", data_files=files)
        assert rows.reader.places == (f"{folder}/",)
        assert [rows.reader.pixels(row["image"]).ndim for row in rows.dataset] == [3, 3, 3]


def test_home_is_that_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_parquet(tmp_path / "photos")
    for source in (
        Source("~/photos"),
        Source("parquet", data_dir="~/photos"),
        Source("parquet", data_files="~/photos/*"),
    ):
        assert load_rows(source).num_rows == 3


def test_two_colons_are_refused_in_a_sentence(tmp_path):
    write_parquet(tmp_path / "a::b")
    for keywords in ({"data_dir": f"{tmp_path}/a::b"}, {"data_files": [f"{tmp_path}/a::b/*.parquet"]}):
        with pytest.raises(DataError, match="a::b.* has :: in it.* rename it"):
            load_rows("parquet", **keywords)
