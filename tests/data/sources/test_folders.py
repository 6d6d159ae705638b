"""Folders of images: which splits, labels and files there are, in which order, and what is said of the rest."""

import json
import os
from pathlib import Path

import pytest

from hfcontrast import console
from hfcontrast.data import Source, TrainLoader, available_splits, load_rows
from hfcontrast.data.sources import folders
from hfcontrast.data.sources.folders import listing as listings
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images

IMAGE = encoded_images(1)[0]


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch):
    monkeypatch.setattr(console, "_said", set())


@pytest.fixture
def tree(tmp_path):
    """Makes files by their paths, images where no text is given; returns the folder."""

    def make(*paths: str, **texts: str) -> Path:
        for path in (*paths, *texts):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            data = texts[path].encode() if path in texts else IMAGE
            (tmp_path / path).write_bytes(data)
        return tmp_path

    return make


def opened(root, split="train", **options):
    """Path within the folder and name of the class (or the label) of each row."""
    rows = load_rows("imagefolder", data_dir=str(root), split=split, **options)
    names = rows.class_names
    labels = [row.get("label", "none") for row in rows.dataset]
    labels = [names[label] if names and isinstance(label, int) and label >= 0 else label for label in labels]
    paths = [os.path.relpath(row["image"]["path"], os.path.realpath(root)) for row in rows.dataset]
    return dict(zip(paths, labels, strict=True))


def test_the_order_is_that_of_the_paths(tree):
    paths = [
        "a b/1.png",
        "a-b/1.png",
        "a.png",
        "a/1.png",
        "a/c/0.png",
        "a/c.png",
        "a0/1.png",
        "Z/1.png",
        "é/1.png",
        "b.png",
    ]
    root = tree(*paths)
    assert list(opened(root)) == sorted(paths) == list(opened(root, streaming=True))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_class_called_like_a_split_is_a_class(tree, streaming, caplog):
    root = tree(*(f"{name}/{i}.png" for name in ("boat", "car", "train", "test") for i in range(2)))
    assert available_splits(str(root)) == ["train"]
    found = opened(root, streaming=streaming)
    assert len(found) == 8 and all(path.split("/")[0] == name for path, name in found.items())
    assert (
        "the folders test, train of" in caplog.text
        and "are classes, not splits: beside it there is boat, car" in caplog.text
    )


@pytest.mark.parametrize(
    "names, splits",
    [
        (["train", "val"], ["train", "validation"]),
        (["Training", "TEST", "dev"], ["train", "validation", "test"]),
        (["train2017", "val2017"], ["train", "validation"]),
        (["train_images", "test-set"], ["train", "test"]),
        (["eval"], ["test"]),
        (["trainer", "testers"], ["train"]),
        (["retrain", "train"], ["train"]),
    ],
)
def test_names_of_splits(tree, names, splits, caplog):
    root = tree(*(f"{name}/{kind}/1.png" for name in names for kind in ("cat", "dog")))
    assert available_splits("imagefolder", data_dir=str(root)) == splits
    found = opened(root, splits[-1])
    if len(splits) > 1:
        assert set(found.values()) == {"cat", "dog"} and "are its splits: train is" in caplog.text
    assert len(found) == (2 if splits != ["train"] else 2 * len(names))


def test_files_beside_splits_and_words_in_names_of_files(tree, caplog):
    root = tree("train/cat/a.png", "train/dog/a.png", "test/cat/a.png", "cover.png", "annotations/a.xml")
    assert list(opened(root)) == ["train/cat/a.png", "train/dog/a.png"] and list(opened(root, "test")) == [
        "test/cat/a.png"
    ]
    assert opened(root, "test") == {"test/cat/a.png": "cat"}  # though it is the only class there
    assert "1 image beside the folders of the splits of" in caplog.text
    flat = tree("flat/train_1.png", "flat/test_1.png") / "flat"
    assert len(opened(flat)) == 2


def test_labels_are_the_first_folders_whatever_the_depth(tree, caplog):
    root = tree("cat/1.png", "dog/1.png", "dog/puppies/brown/2.png", "cover.png")
    assert opened(root) == {"cat/1.png": "cat", "cover.png": -1, "dog/1.png": "dog", "dog/puppies/brown/2.png": "dog"}
    assert (
        "1 of 4 images in split train of" in caplog.text and "lies in no class folder and has no label" in caplog.text
    )


def test_a_folder_that_is_alone_is_passed_through(tree):
    root = tree("all/images/cat/1.png", "all/images/dog/1.png")
    assert set(opened(root).values()) == {"cat", "dog"}
    root = tree("deep/data/train/cat/1.png", "deep/data/train/dog/1.png", "deep/data/test/images/1.png") / "deep"
    assert available_splits(str(root)) == ["train", "test"] and set(opened(root).values()) == {"cat", "dog"}
    assert opened(root, "test") == {"data/test/images/1.png": "none"}
    assert opened(root, "train+test")["data/test/images/1.png"] in (-1, None)
    same = tree("same/a/a/1.png", "same/a/b/1.png") / "same"
    assert set(opened(same).values()) == {"a", "b"}
    assert opened(tree("one/cat/1.png", "one/cat/2.png") / "one") == {"cat/1.png": "none", "cat/2.png": "none"}


def test_classes_of_another_split_only_come_last(tree, caplog):
    root = tree("train/b/1.png", "train/d/1.png", "test/a/1.png", "test/b/1.png")
    rows = load_rows(str(root), split="test")
    assert rows.class_names == ["b", "d", "a"] and [row["label"] for row in rows.dataset] == [2, 0]
    assert load_rows(str(root)).class_names == rows.class_names
    assert "has classes that train has not: a" in caplog.text
    assert load_rows(str(root), split="train[:1]+test").num_rows == 3


@pytest.mark.parametrize("path", ["imagefolder", None])
def test_every_file_is_used_or_counted(tree, path, caplog):
    root = tree(
        "cat/1.PNG",
        "cat/plain",
        "cat/odd.ending",
        **{"cat/a.txt": "x", "cat/b.txt": "x", "cat/c": "x", "cat/d.cr2": "II*\0"},
    )
    tree("cat/.hidden.png", "cat/Thumbs.db", "__MACOSX/1.png", ".git/1.png", "@eaDir/1.png", "README.md")
    os.symlink(root / "nowhere", root / "cat" / "gone.png")
    rows = load_rows(path, data_dir=str(root)) if path else load_rows(str(root))
    assert [Path(row["image"]["path"]).name for row in rows.dataset] == ["1.PNG", "odd.ending", "plain"]
    assert f"5 files of {root} are not used: 2 .txt, 1 broken link, 1 without ending, 1 .cr2" in caplog.text


def test_known_endings_are_not_opened(tree, monkeypatch):
    root = tree("a.png", "b.jpeg", "c.webp", "d.avif", "e.TIFF", "f.json")
    monkeypatch.setattr(
        listings, "begins_as_image", lambda path: pytest.fail(path) if not path.endswith("json") else False
    )
    assert len(opened(root)) == 5


def test_links_are_followed_but_not_in_circles(tree, caplog):
    root = tree("set/cat/1.png", "set/dog/1.png", "elsewhere/2.png") / "set"
    os.symlink(root.parent / "elsewhere", root / "owl")
    os.symlink(root.parent / "elsewhere" / "2.png", root / "dog" / "2.png")
    os.symlink(root, root / "cat" / "again")
    assert list(opened(root)) == ["cat/1.png", "dog/1.png", "dog/2.png", "owl/2.png"]
    assert "1 link back to a folder that it is in" in caplog.text


def test_a_folder_is_walked_once_until_it_changes(tree, monkeypatch):
    root = tree("cat/1.png", "dog/1.png")
    for folder in (root, root / "cat", root / "dog"):
        os.utime(folder, (1, 1))
    walks = []
    monkeypatch.setattr(listings.os, "scandir", lambda path, scan=os.scandir: walks.append(path) or scan(path))
    assert available_splits(str(root)) and len(opened(root)) == 2 and load_rows(str(root), streaming=True).num_rows == 2
    assert len(walks) == 3
    tree("cat/2.png")
    assert len(opened(root)) == 3


CAPTIONS = "file_name,caption\ndog/2.png,two\ncat/1.png,one\n"


@pytest.mark.parametrize("streaming", [False, True])
def test_metadata_adds_columns_and_takes_nothing_away(tree, streaming, caplog):
    root = tree("cat/1.png", "cat/3.png", "dog/2.png", "dog/4.png", **{"metadata.csv": CAPTIONS})
    assert opened(root, streaming=streaming) == {
        "dog/2.png": "dog",
        "cat/1.png": "cat",
        "cat/3.png": "cat",
        "dog/4.png": "dog",
    }
    assert "not used" not in caplog.text
    rows = load_rows(str(root), captioned=True, streaming=streaming)
    assert [row["caption"] for row in rows.dataset] == ["two", "one"] and rows.num_rows == 2
    assert "2 of 4 images of" in caplog.text and "no metadata file has a row of them" in caplog.text


def lines(**texts: str) -> str:
    """The texts of some files as a JSON table."""
    return "".join(json.dumps({"file_name": name, "text": text}) + "\n" for name, text in texts.items())


def test_metadata_of_splits_and_of_folders_in_them(tree):
    root = tree("train/a/1.png", "train/b/2.png", "test/a/3.png", **{
        "train/a/metadata.jsonl": lines(**{"1.png": "one"}),
        "train/b/metadata.jsonl": lines(**{"2.png": "two"}),
        "test/metadata.jsonl": lines(**{"a/3.png": "three"}),
    })  # fmt: skip
    rows = {split: load_rows(str(root), split=split, captioned=True) for split in ("train", "test")}
    assert {split: [row["text"] for row in found.dataset] for split, found in rows.items()} == {
        "train": ["one", "two"], "test": ["three"],
    }  # fmt: skip
    above = tree("x/train/2.png", "x/train/1.png", "x/test/1.png", **{
        "x/metadata.csv": "file_name,text\ntest/1.png,c\ntrain/2.png,b\ntrain/1.png,a\n"
    }) / "x"  # fmt: skip
    assert [row["text"] for row in load_rows(str(above), captioned=True).dataset] == ["a", "b"]


def test_labels_and_further_images_in_metadata(tree):
    text = "file_name,label,mask_file_name\nb/1.png,owl,m/1.png\na/1.png,owl,m/2.png\na/2.png,elk,\n"
    rows = load_rows(
        str(tree("a/1.png", "a/2.png", "b/1.png", "m/1.png", "m/2.png", **{"metadata.csv": text})), columns=["mask"]
    )
    assert rows.class_names == ["elk", "owl"] and [row["label"] for row in rows.dataset] == [1, 1, 0, None, None]
    assert rows.dataset[0]["mask"]["path"].endswith("m/1.png") and rows.dataset[2]["mask"] is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("filename,caption\n1.png,x\n", "has no column file_name, which says .* its columns are filename, caption"),
        ("file_name;caption\n1.png;x\n", "its columns are file_name;caption: separate them by commas, and not by ';'"),
        (
            "file_name,caption\n9.png,x\nb/8,x\nb/1,x\n",
            "3 names in .*metadata.csv are no files there, such as '9.png': .* such as 1.png",
        ),
        ("file_name,caption\n../1.png,x\n", r"names the file '\.\./1\.png'"),
        ("file_name,caption\n/etc/passwd,x\n", "within its folder"),
        ('file_name,caption\n"1.png,x\n', "metadata.csv cannot be read"),
    ],
)
def test_mistakes_in_metadata_are_named(tree, text, message):
    with pytest.raises(DataError, match=message):
        load_rows(str(tree("1.png", **{"metadata.csv": text})))


@pytest.mark.parametrize(
    "names",
    [
        ("a/1", "a/2", "b/3"),  # as tables of ids name them
        ("a/1.jpg", "a/2.PNG", "b/3.jpeg"),  # converted, and on a disk that takes capitals for small letters
        ("A/1.png", "a/2.png", "b/3"),
        ("1.png", "2.png", "3.png"),  # beside their folder
        ("x/1", "x/2", "x/3.JPG"),  # moved
    ],
)
def test_images_that_metadata_names_otherwise_than_their_files(tree, names, caplog):
    root = tree("a/1.png", "a/2.png", "b/3.png", **{"metadata.csv": captioned(names)})
    assert captions(root) == {"a/1.png": names[0], "a/2.png": names[1], "b/3.png": names[2]}
    assert f"in {root}/metadata.csv" in caplog.text and "the only image" in caplog.text


def test_metadata_above_splits_may_lack_the_endings(tree):
    names = [f"{split}/{name}" for split in ("train", "test") for name in "12"]
    root = tree(*(f"{name}.png" for name in names), **{"metadata.csv": captioned(names)})
    for split in ("train", "test"):
        assert captions(root, split=split) == {f"{split}/{name}.png": f"{split}/{name}" for name in "12"}


def test_a_column_of_splits_in_metadata_is_named(tree, caplog):
    table = "file_name,caption,split\n1.png,x,train\n2.png,y,test\n"
    assert len(captions(tree("1.png", "2.png", **{"metadata.csv": table}))) == 2
    assert "column split of the metadata of" in caplog.text and "(train, test) makes no splits" in caplog.text


def test_a_name_that_may_mean_two_images_means_none(tree, caplog):
    root = tree("1.png", "2.png", "2.jpg", "x/3.png", **{"metadata.csv": captioned(["1.png", "2", "3"])})
    assert captions(root) == {"1.png": "1.png", "2": "2", "3": "3"}
    assert "2 names in" in caplog.text and "are no files there, such as '2'" in caplog.text


def captioned(names) -> str:
    """A table of metadata in which each name is its own caption."""
    return "file_name,caption\n" + "".join(f"{name},{name}\n" for name in names)


def captions(root, **options):
    """The caption of each image by its path within the folder."""
    rows = load_rows("imagefolder", data_dir=str(root), captioned=True, **options)
    return {os.path.relpath(row["image"]["path"], os.path.realpath(root)): row["caption"] for row in rows.dataset}


def test_a_folder_without_images(tree):
    root = tree(**{"notes/a.txt": "x", "notes/b.heic": "x"})
    with pytest.raises(
        DataError, match=r"holds no images.*2 files of .* are not used: 1 \.txt, 1 \.heic \(pip install pillow-heif"
    ):
        load_rows("imagefolder", data_dir=str(root))


def test_tables_in_a_folder_stay_with_datasets(tree, shards):
    assert load_rows(shards).class_names == ["a", "b", "c"]
    root = tree("cat/1.png", "dog/1.png", **{"list.csv": "a,b\n1,2\n", "cat/1.json": "{}", "dog/1.json": "{}"})
    assert load_rows(str(root)).class_names == ["cat", "dog"]


def test_rows_are_trained_on(tree):
    rows = load_rows(str(tree("cat/1.png", "dog/1", "cover.png")))
    batch = next(iter(TrainLoader(rows, (View(size=8),), batch_size=3, workers=0)))
    assert sorted(batch["labels"].tolist()) == [-1, 0, 1]


def test_files_that_patterns_and_lists_name(tree, monkeypatch):
    root = tree("a/cat/1.png", "a/cat/2.avif", "a/dog/1.png", "a/x.png", "b/cat/9", "b/cat/n.txt")
    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_, **__: pytest.fail("left to datasets"))

    def names(files, split="train", **options):
        rows = load_rows("imagefolder", data_files=files, split=split, **options)
        labels = [row.get("label") for row in rows.dataset]
        paths = [os.path.relpath(row["image"]["path"], os.path.realpath(root)) for row in rows.dataset]
        return paths, rows.class_names and [rows.class_names[label] if label >= 0 else None for label in labels]

    every = ["a/cat/1.png", "a/cat/2.avif", "a/dog/1.png", "a/x.png"]
    assert names(f"{root}/a/**") == (every, ["cat", "cat", "dog", None])
    assert names(f"{root}/a/*/*", streaming=True) == (every[:3], ["cat", "cat", "dog"])
    assert names([f"{root}/a/dog/1.png", f"{root}/a/cat/*.png"]) == (["a/dog/1.png", "a/cat/1.png"], ["dog", "cat"])
    splits = {"train": "a/*/*.png", "test": ["b/**"]}
    assert names(splits, data_dir=str(root)) == (["a/cat/1.png", "a/dog/1.png"], ["cat", "dog"])
    assert names(splits, "test", data_dir=str(root)) == (["b/cat/9"], ["cat"])
    assert available_splits("imagefolder", data_files=splits, data_dir=str(root)) == ["train", "test"]


def test_files_that_are_left_to_datasets(tree):
    root = tree("a/cat/1.png", "a/dog/1.png", ".hidden/1.png")
    for files in (
        f"{root}/.*/*",
        f"{root}/nowhere/*.png",
        "https://a.example/1.png",
        [f"{root}/a/cat/1.png", f"{root}/b.png"],
    ):
        assert not folders.takes(Source("imagefolder", data_files=files))


@pytest.mark.parametrize("named", ["data_dir", "**", "*/*", "path"])
def test_an_archive_beside_images_is_counted(tree, named, caplog):
    root = tree("cat/1.png", "cat/2.png", "dog/1.png", **{"cat/more.zip": "PK"})
    source = {
        "data_dir": Source("imagefolder", data_dir=str(root)),
        "**": Source("imagefolder", data_files=f"{root}/**"),
        "*/*": Source("imagefolder", data_files=f"{root}/*/*"),
        "path": Source(str(root)),
    }[named]
    rows = load_rows(source)
    assert rows.class_names == ["cat", "dog"] and rows.dataset["label"] == [0, 0, 1]
    assert named == "**" or "is not used: 1 .zip" in caplog.text


@pytest.mark.parametrize("second", ["metadata.jsonl", "cat/metadata.jsonl"])
def test_two_metadata_files_that_name_one_image_are_refused(tree, second):
    name = "1.png" if "/" in second else "cat/1.png"
    root = tree("cat/1.png", "dog/2.png", **{"metadata.csv": CAPTIONS, second: lines(**{name: "one"})})
    with pytest.raises(DataError, match=r"metadata\..* and .*metadata\..* both name the image 1.png: keep one of the"):
        load_rows(str(root))


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_one_image_are_captions_or_only_the_first_is_used(tree, streaming, caplog):
    root = tree("cat/1.png", "dog/2.png", "dog/3.png", **{"metadata.csv": CAPTIONS + "cat/1.png,uno\n"})
    rows = load_rows(str(root), streaming=streaming)
    assert rows.num_rows == 3 and [row["label"] for row in rows.dataset] == [1, 0, 1]
    assert "1 of 3 rows in the metadata of split train" in caplog.text
    rows = load_rows(str(root), captioned=True, streaming=streaming)
    assert [row["caption"] for row in rows.dataset] == ["two", "one", "uno"]
    assert "1 of 3 images of" in caplog.text and "is not used: no metadata file has a row of it" in caplog.text


def test_images_without_a_label_in_metadata_keep_that_of_their_folder(tree, caplog):
    paths = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(2)]
    for labels in (("dog", "cat"), (1, 0)):
        text = f"file_name,label\ndog/0.png,{labels[0]}\ncat/1.png,{labels[1]}\n"
        rows = load_rows(str(tree(*paths, **{"metadata.csv": text})))
        assert [row["label"] for row in rows.dataset] == [1, 0, 0, 1] and "label" not in caplog.text
    rows = load_rows(str(tree(**{"metadata.csv": "file_name,label\ndog/0.png,owl\ncat/1.png,cat\n"})))
    assert rows.class_names == ["cat", "owl"] and [row["label"] for row in rows.dataset] == [1, 0, None, None]
    assert "2 of 4 images of split train of" in caplog.text
    assert "metadata gives labels to 2, and those (owl, cat) are not the folders (cat, dog)" in caplog.text


def test_folders_that_may_not_be_read_are_named(tree, monkeypatch, caplog):
    root = tree("cat/1.png", "dog/1.png", "elk/1.png")
    scan = os.scandir

    def scandir(path):
        if str(path).rstrip("/").endswith("/cat"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert set(opened(root).values()) == {"dog", "elk"}
    assert f"the folder {root}/cat may not be read, and its images are not used: make it readable" in caplog.text


def test_folders_of_splits_without_images_are_named(tree, caplog):
    root = tree("train/cat/1.png", "train/dog/1.png")
    (root / "test" / "cat").mkdir(parents=True)
    assert len(opened(root)) == 2
    assert "are its splits: train is train/; test/ holds no images" in caplog.text
    with pytest.raises(DataError, match=r"no split 'test'; there is train \(the folders .*test/ holds no images\)"):
        opened(root, "test")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_that_is_not_there_says_which_folders_are_splits(tree, streaming):
    root = tree("test/cat/1.png", "test/dog/1.png")
    message = (
        r"no split 'train'; there is test \(the folders of .* test is test/\): set data.split=test .*--train-split"
    )
    with pytest.raises(DataError, match=message):
        opened(root, streaming=streaming)


def test_counts_by_ending_are_of_all_files(tree, caplog):
    opened(tree("1.png", "wrong.txt", "wrong.dat", **{"readme.txt": "x", "readme.md": "x"}))
    assert "2 files of" in caplog.text and "are not used: 2 .txt" in caplog.text
