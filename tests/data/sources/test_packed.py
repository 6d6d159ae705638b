"""Zip and tar files of images: opened like the folder, unpacked once, safely and completely or not at all."""

import io
import logging
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from hfcontrast import console
from hfcontrast.data import available_splits, load_rows
from hfcontrast.data.held_out import held_out_sources
from hfcontrast.data.sources import unpacking
from hfcontrast.errors import DataError
from tests.data.conftest import encoded_images

IMAGES = encoded_images(6)
CLASSES = {f"{name}/{i}.png": IMAGES[i] for name in ("cat", "dog") for i in range(3)}
SAMPLES = {f"{i}.{ending}": data for i in range(6) for ending, data in (("png", IMAGES[i]), ("cls", b"1"))}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(console, "_said", set())
    return tmp_path / "cache" / "hfcontrast_archives"


def pack(path, files):
    """Writes files by their names into an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


def pixels(rows):
    return [rows.reader.pixels(row["image"]).tolist() for row in rows.dataset]


@pytest.mark.parametrize("name", ["a [1].zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_an_archive_opens_like_the_folder(tmp_path, name):
    for file, data in CLASSES.items():
        (tmp_path / "folder" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / file).write_bytes(data)
    litter = {".DS_Store": b"x", "__MACOSX/cat/._0.png": b"x"}
    archive = str(pack(tmp_path / "only" / name, {f"photos/{file}": data for file, data in CLASSES.items()} | litter))
    folder = load_rows("imagefolder", data_dir=str(tmp_path / "folder"))
    everywhere = (
        {"path": archive},
        {"path": str(tmp_path / "only")},
        {"path": "imagefolder", "data_dir": archive},
        {"path": "imagefolder", "data_dir": str(tmp_path / "only")},
        {"path": "imagefolder", "data_files": archive},
        {"path": "imagefolder", "data_files": {"train": [archive]}},
    )
    for source in everywhere if name.endswith("zip") else everywhere[:1]:
        assert available_splits(**source) == ["train"]
        rows = load_rows(**source)
        assert rows.class_names == folder.class_names and rows.dataset["label"] == folder.dataset["label"]
        assert pixels(rows) == pixels(folder) and rows.fingerprint() == folder.fingerprint()
        assert len(list(load_rows(**source, streaming=True).dataset)) == 6


def test_folders_of_an_archive_can_be_splits(tmp_path):
    files = {f"{split}/{name}": data for split in ("train", "test") for name, data in CLASSES.items()}
    archive = str(pack(tmp_path / "a.zip", files))
    assert sorted(available_splits(archive)) == ["test", "train"]
    assert load_rows(archive, split="test").num_rows == 6


def test_each_split_can_be_an_archive(tmp_path):
    places = {split: str(pack(tmp_path / "both" / f"{split}.zip", CLASSES)) for split in ("train", "test")}
    (tmp_path / "both" / "README.md").touch()
    for source in (
        {"path": str(tmp_path / "both")},
        {"path": "imagefolder", "data_dir": str(tmp_path / "both")},
        {"path": "imagefolder", "data_files": places},
    ):
        assert sorted(available_splits(**source)) == ["test", "train"]
        rows = load_rows(**source, split="test")
        assert rows.num_rows == 6 == len(pixels(rows)) and rows.class_names == ["cat", "dog"]


def test_the_archive_beside_is_held_out(tmp_path):
    for split in ("train", "test"):
        pack(tmp_path / f"{split}.zip", CLASSES)
    for source in ({"path": f"{tmp_path}/train.zip"}, {"path": "imagefolder", "data_dir": f"{tmp_path}/train.zip"}):
        ((other, split, folder),) = held_out_sources(source)
        assert folder == tmp_path / "test.zip" and load_rows(**other, split=split).num_rows == 6


def test_it_is_unpacked_once_and_said(tmp_path, cache, monkeypatch, caplog):
    archive = pack(tmp_path / "a.zip", CLASSES)
    with caplog.at_level(logging.WARNING):
        load_rows(str(archive))
    (folder,) = cache.glob("a-*[!k]")
    assert [r.message for r in caplog.records] == [
        f"the files of {archive} are read from {folder}, where it was unpacked"
    ]
    write = unpacking._write_members
    monkeypatch.setattr(unpacking, "_write_members", None)  # it is there already
    assert load_rows(str(archive)).num_rows == 6
    monkeypatch.setattr(unpacking, "_write_members", write)
    pack(archive, {name: data for name, data in CLASSES.items() if "cat" in name} | {"owl/0.png": IMAGES[0]})
    os.utime(archive, (1, 1))
    assert load_rows(str(archive)).class_names == ["cat", "owl"]


def test_an_interruption_leaves_nothing_half(tmp_path, cache, monkeypatch):
    archive = str(pack(tmp_path / "a.tar", CLASSES))
    copy, written = unpacking.shutil.copyfileobj, []

    def stops(*arguments):
        written.append(copy(*arguments))
        if len(written) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unpacking.shutil, "copyfileobj", stops)
        with pytest.raises(KeyboardInterrupt):
            load_rows(archive)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    killed = cache / f".unfinished_{Path(unpacking.unpack(archive)).name}"  # what a kill leaves
    unpacking.shutil.rmtree(unpacking.unpack(archive))
    (killed / "cat").mkdir(parents=True)
    (killed / "cat" / "9.png").write_bytes(b"")
    assert load_rows(archive).num_rows == 6 and not killed.exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_nothing_is_written_outside_of_the_folder(tmp_path, cache, name, caplog):
    outside = {
        "../../evil.png": IMAGES[0],
        "/evil.png": IMAGES[0],
        f"{tmp_path}/evil.png": IMAGES[0],
        "cat/../../e.png": b"",
    }
    archive = pack(tmp_path / name, CLASSES | outside)
    assert load_rows(str(archive)).num_rows == 6
    assert not list(tmp_path.rglob("e*.png")) and not Path("/evil.png").exists()
    assert f"{archive}: not unpacked: 4 names that lead out of the folder" in caplog.text


def test_links_of_a_tar_are_the_files_that_they_lead_to(tmp_path, caplog):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        links = {"cat/link.png": "../dog/0.png", "cat/out.png": "../../../etc/passwd", "cat/all": "/etc"}
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for name, data in CLASSES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo("dog/pipe")
        entry.type = tarfile.FIFOTYPE
        tar.addfile(entry)
        entry = tarfile.TarInfo("dog/hard.png")
        entry.type, entry.linkname = tarfile.LNKTYPE, "cat/0.png"
        tar.addfile(entry)
    rows = load_rows(str(archive))
    assert rows.num_rows == 8 and len(pixels(rows)) == 8
    assert "not unpacked: 3 links to what is not in it, or no regular files" in caplog.text


def test_a_webdataset_stays_one(tmp_path, cache):
    archive = pack(tmp_path / "set" / "a.tar", SAMPLES)
    for source in (
        {"path": str(archive)},
        {"path": str(archive.parent)},
        {"path": "webdataset", "data_dir": str(archive.parent)},
    ):
        rows = load_rows(**source)
        assert rows.num_rows == 6 and rows.dataset["label"] == [1] * 6
    with pytest.raises(
        DataError, match="holds the samples of a webdataset, not a folder of images: set data.path=webdataset"
    ):
        load_rows("imagefolder", data_dir=str(archive))
    assert not cache.exists()


def test_an_archive_that_is_named_is_opened_whatever_its_files_are_called(tmp_path):
    bare = pack(tmp_path / "a.zip", {name.removesuffix(".png"): data for name, data in CLASSES.items()})
    assert load_rows(str(bare)).num_rows == 6 == load_rows("imagefolder", data_files=str(bare)).num_rows
    texts = str(pack(tmp_path / "b.zip", {"a.txt": b"x"}))
    with pytest.raises(DataError, match="b-.* holds no images"):
        load_rows("imagefolder", data_dir=texts)


def test_what_cannot_be_unpacked_is_told_in_a_sentence(tmp_path, cache, monkeypatch):
    whole = pack(tmp_path / "whole.tgz", CLASSES).read_bytes()
    tar = pack(tmp_path / "whole.tar", CLASSES).read_bytes()
    damaged = {
        "cut.tgz": whole[:-300],
        "cut.tar": tar[:3000],
        "end.tar": tar[: 512 * 4],
        "no.zip": b"x" * 50,
        "no.tar": b"x" * 50,
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=f"{name} is no zip or tar archive that can be read: it is damaged"):
            load_rows(str(tmp_path / name))
    (tmp_path / "a.rar").write_bytes(b"")
    with pytest.raises(DataError, match="a.rar is an archive of a kind that is not opened: unpack it"):
        load_rows("imagefolder", data_dir=str(tmp_path / "a.rar"))
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: unpacking.shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(DataError, match="whole.tar cannot be unpacked into .*: 0.0 GB are free; .* HF_DATASETS_CACHE"):
        load_rows(str(tmp_path / "whole.tar"))
    assert not cache.exists() or {path.suffix for path in cache.iterdir()} == {".lock"}


@pytest.mark.parametrize("inside", ["", "cat/"])
def test_each_class_can_be_an_archive(tmp_path, inside, caplog):
    for name in ("cat", "dog"):
        pack(tmp_path / f"set/{name}.zip", {f"{inside}{i}.png": IMAGES[i] for i in range(3)})
    for source in ({"path": str(tmp_path / "set")}, {"path": "imagefolder", "data_dir": str(tmp_path / "set")}):
        rows = load_rows(**source)
        assert rows.class_names == ["cat", "dog"] and rows.dataset["label"] == [0, 0, 0, 1, 1, 1]
    assert caplog.text.count("are its classes: cat, dog") == 1


def test_numbered_parts_are_no_classes(tmp_path, caplog):
    for i in range(2):
        pack(tmp_path / f"parts/images_{i}.zip", {f"{i}.png": IMAGES[i]})
        pack(tmp_path / f"wordnet/n0{i + 1}440764.zip", {f"{i}.png": IMAGES[i]})
    assert load_rows("imagefolder", data_dir=str(tmp_path / "parts")).class_names is None
    assert "images_0, images_1, are taken for numbered parts of one set: their images have no labels" in caplog.text
    assert len(load_rows("imagefolder", data_dir=str(tmp_path / "wordnet")).class_names) == 2


def labels_of(**source):
    """How many images of each class a source has, and that all of them can be read."""
    rows = load_rows(**source)
    assert len(pixels(rows)) == rows.num_rows
    return sorted(rows.class_names[row["label"]] for row in rows.dataset)


@pytest.mark.parametrize("streaming", [False, True])
def test_archives_with_class_folders_are_parts_of_one_set(tmp_path, streaming, caplog):
    for part in "ab":  # files of the same names too
        pack(
            tmp_path / "parts" / f"{part}.zip",
            {f"{part}/cat/0.png": IMAGES[ord(part) % 6], f"{part}/dog/0.png": IMAGES[1]},
        )
        pack(
            tmp_path / "tars" / f"{part}.tar",
            {f"cat/{part}.png": IMAGES[0], f"{part}.png": IMAGES[1], f"dog/{part}.png": IMAGES[2]},
        )
    files = {"data_files": str(tmp_path / "parts" / "*.zip")}
    for source in (
        {"path": str(tmp_path / "parts")},
        {"path": "imagefolder", "data_dir": str(tmp_path / "parts")},
        {"path": "imagefolder", **files},
    ):
        assert labels_of(streaming=streaming, **source) == ["cat", "cat", "dog", "dog"]
    rows = load_rows("imagefolder", data_dir=str(tmp_path / "tars"), streaming=streaming)
    assert sorted(row["label"] for row in rows.dataset) == [-1, -1, 0, 0, 1, 1]
    assert "a, b, are taken for parts of one set" in caplog.text


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_archives_in_folders_are_what_the_folders_are(tmp_path, ending, caplog):
    for split in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            pack(tmp_path / "in" / split / f"{name}{ending}", {f"{split}{number}.png": IMAGES[number]})
    source = {"path": "imagefolder", "data_dir": str(tmp_path / "in")}
    assert available_splits(**source) == ["train", "test"]
    assert labels_of(split="train", **source) == labels_of(split="test", **source) == ["cat", "dog"]
    load_rows(str(tmp_path / "in"))
    assert ("are read as a webdataset" in caplog.text) == (ending == ".tar")


@pytest.mark.parametrize("name", ["0.png", "images/0.png", "cat/0.png"])
def test_metadata_lies_beside_an_archive_or_within_it(tmp_path, name):
    inside = "cat/0.png" if name == "cat/0.png" else "0.png"
    table = f"file_name,text\n{name},a cat\n".encode()
    pack(tmp_path / "beside" / "images.zip", {inside: IMAGES[0], "dog/1.png": IMAGES[1]})
    (tmp_path / "beside" / "metadata.csv").write_bytes(table)
    pack(tmp_path / "within" / "images.zip", {name: IMAGES[0], "metadata.csv": table})
    for place in ("beside", "within"):
        rows = load_rows(str(tmp_path / place), captioned=True)
        assert [row["text"] for row in rows.dataset] == ["a cat"] and len(pixels(rows)) == 1


def test_archives_that_may_be_one_thing_or_the_other_are_refused(tmp_path):
    pack(tmp_path / "some" / "a.zip", {"cat/0.png": IMAGES[0], "dog/1.png": IMAGES[1]})
    pack(tmp_path / "some" / "b.zip", {"0.png": IMAGES[0]})
    with pytest.raises(DataError, match="a of the archives of .*some has class folders and b has none"):
        load_rows(str(tmp_path / "some"))
    for part in "ab":
        table = b"file_name,text\ncat/0.png,a cat\n"
        pack(
            tmp_path / "twice" / f"{part}.zip", {"cat/0.png": IMAGES[0], "dog/1.png": IMAGES[1], "metadata.csv": table}
        )
    with pytest.raises(DataError, match="two archives of .*twice have a file .*metadata says"):
        load_rows(str(tmp_path / "twice"))
