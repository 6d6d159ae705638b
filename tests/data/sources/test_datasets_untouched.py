"""Reading data does not change ``datasets`` for other code of the process."""

import inspect
import io
import pickle
import sys
import tarfile

import datasets
import pytest
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import ArchiveIterable

from hfcontrast.data import load_rows
from tests.data.conftest import encoded_images


@pytest.fixture
def files(tmp_path):
    """Arguments that open an archive of six samples."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, data in enumerate(encoded_images(6)):
            for name, content in ((f"{number}.png", data), (f"{number}.cls", b"1")):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return {"path": "webdataset", "data_files": {"train": str(tmp_path / "a.tar")}}


def ours() -> list[str]:
    """The attributes of modules and classes of ``datasets``, and what their lists and tables hold, that are of this package."""
    found = []
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] == "datasets"]:
        classes = [value for value in vars(module).values() if inspect.isclass(value)]
        for place in (module, *(value for value in classes if value.__module__.startswith("datasets"))):
            for name, value in list(vars(place).items()):
                held = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
                for item in (value, getattr(value, "__func__", None), *held):
                    if str(getattr(item, "__module__", "")).startswith("hfcontrast"):
                        found.append(f"{place}.{name}")
    return found


def state() -> list:
    settings = [*WebDataset.IMAGE_EXTENSIONS], {**WebDataset.DECODERS}, {**vars(datasets.config)}
    return [*settings, {**vars(WebDataset)}, {**vars(ArchiveIterable)}]


@pytest.mark.parametrize("streaming", [True, False])
def test_who_else_uses_datasets_finds_it_unchanged(files, streaming):
    before = state()
    rows = load_rows(**files, streaming=streaming)
    mine = iter(rows.dataset)
    assert next(mine)["image"]["bytes"] and state() == before
    others = datasets.load_dataset(**files, split="train", streaming=True)  # while the rows are read
    assert list(others.features) == ["png", "cls", "__key__", "__url__"]
    assert len(list(mine)) == 5
    assert list(next(iter(others))) == ["png", "cls", "__key__", "__url__"]
    assert state() == before and ours() == []


def test_what_is_prepared_here_is_not_found_by_others(files):
    """The two readings of an archive are cached apart, whichever comes first."""
    for _ in range(2):
        assert list(load_rows(**files).dataset.features) == ["image", "label"]
        others = datasets.load_dataset(**files, split="train")
        assert others.column_names == ["png", "cls", "__key__", "__url__"] and len(others) == 6


def test_a_stream_of_an_archive_can_be_sent_to_a_process(files):
    rows = load_rows(**files, streaming=True)
    again = pickle.loads(pickle.dumps(rows.dataset))
    assert [row["image"]["bytes"] for row in again] == [row["image"]["bytes"] for row in rows.dataset]
