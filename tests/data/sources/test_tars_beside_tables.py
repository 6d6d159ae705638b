"""Folders as img2dataset writes them: the tars are read, whatever lies beside them."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from hfcontrast import console
from hfcontrast.data import available_splits, load_rows
from hfcontrast.data.sources.tars_beside_tables import tars_beside_tables
from hfcontrast.errors import DataError
from tests.data.conftest import encoded_images
from tests.data.sources.test_archives import write

IMAGES = encoded_images(6)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two tars of three samples, each with its table and its statistics."""
    monkeypatch.setattr(console, "_said", set())
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    place = tmp_path / "laion [1]"
    place.mkdir()
    for shard in range(2):
        members = []
        for number in range(3 * shard, 3 * shard + 3):
            members += [(f"{number:09}.png", IMAGES[number]), (f"{number:09}.txt", f"thing {number}".encode())]
            members.append((f"{number:09}.json", json.dumps({"url": f"x{number}"}).encode()))
        write(place / f"{shard:05}.tar", members)
        table = pyarrow.table({"url": [f"x{3 * shard}"] * 3, "status": ["success"] * 3})
        pyarrow.parquet.write_table(table, place / f"{shard:05}.parquet")
        (place / f"{shard:05}_stats.json").write_text('{"count": 3}')
    return place


@pytest.mark.parametrize("streaming", [False, True])
def test_the_tars_are_read(folder, streaming, caplog):
    rows = load_rows(str(folder), streaming=streaming, captioned=True)
    assert [row["txt"] for row in rows.dataset] == [f"thing {number}" for number in range(6)]
    assert [row["image"]["bytes"] for row in rows.dataset] == IMAGES
    assert "its 2 tars are read as a webdataset; the .parquet files beside them" in caplog.text
    assert available_splits(str(folder)) == ["train"]


@pytest.mark.parametrize("change", ["a table without tar", "images in the tables", "another file"])
def test_other_folders_are_read_as_before(folder, change):
    if change == "a table without tar":
        (folder / "00000.tar").unlink()
    elif change == "another file":
        (folder / "notes.csv").write_text("a\n1\n")
    for table in folder.glob("*.parquet") if change == "images in the tables" else ():
        images = pyarrow.array(IMAGES[:3], type=pyarrow.binary())
        pyarrow.parquet.write_table(pyarrow.table({"image": images, "url": ["x"] * 3}), table)
    assert tars_beside_tables(str(folder)) is None


def test_fields_of_a_column_are_kept_with_it(folder):
    with pytest.raises(DataError, match="'json.url' is a field of column 'json' .* kept as a whole: name 'json'"):
        load_rows(str(folder), columns=["json.url"])
