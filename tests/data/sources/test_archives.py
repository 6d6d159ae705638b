"""Webdataset archives as they are found: kinds of members, keys, extensions, and what is missing or broken in them."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable

import pytest
from datasets import Image

from hfcontrast.data import TrainLoader, load_rows
from hfcontrast.data.image_reader import ImageReader
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images

IMAGES = encoded_images(24)
BOTH = pytest.mark.parametrize("streaming", [False, True])


def write(path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def opened(files, streaming: bool, **options):
    return load_rows("webdataset", data_files=str(files), streaming=streaming, **options)


def unreadable(rows, count: int, **options) -> dict[str, str]:
    """The rows that a pass over all of them cannot read."""
    options = {"batch_size": 2, "workers": 0, "cache": False, "epoch_rows": count, "max_unreadable": 1} | options
    loader = TrainLoader(rows, (View(size=8),), **options)
    for _ in zip(range(2 * count), loader):
        pass
    return loader.unreadable


def found_images(rows) -> list[int | None]:
    """Which of IMAGES each row holds; None of a row without one that can be read."""
    return [IMAGES.index(row["image"]["bytes"]) if row["image"] else None for row in rows.dataset]


@BOTH
def test_jpg_and_png_in_turn_within_and_between_archives(tmp_path, streaming):
    write(tmp_path / "a.tar", ((f"{i}.{'jpg' if i % 3 else 'PNG'}", IMAGES[i]) for i in range(6)))
    write(tmp_path / "b.tar", ((f"{i}.webp", IMAGES[i]) for i in range(6, 9)))
    write(tmp_path / "c.tar", ((f"{i}.avif", IMAGES[i]) for i in range(9, 12)))
    for options in ({}, {"image_column": "png"}, {"image_key": "jpg"}):
        assert found_images(opened(tmp_path / "*.tar", streaming, **options)) == list(range(12))


@BOTH
def test_several_images_of_a_key(tmp_path, streaming):
    sides = (("left.JPG", 0), ("right.png", 1), ("json", None))
    for number, extension in enumerate(("JPG", "png")):  # the left one has another extension in the second archive
        members = [(f"{i}.{side}", b"{}" if n is None else IMAGES[2 * i + n]) for i in range(6) for side, n in sides]
        write(tmp_path / f"{number}.tar", ((name.replace("JPG", extension), content) for name, content in members))
    with pytest.raises(DataError, match=r"have several images, left\.jpg, right\.png: set image_key"):
        opened(tmp_path / "*.tar", streaming)
    for key in ("left.jpg", "left", "LEFT.webp"):
        assert found_images(opened(tmp_path / "*.tar", streaming, image_key=key)) == [0, 2, 4, 6, 8, 10] * 2
    assert found_images(opened(tmp_path / "*.tar", streaming, image_column="right.png")) == [1, 3, 5, 7, 9, 11] * 2
    with pytest.raises(DataError, match=r"have no image 'top'; they have left\.jpg, right\.png"):
        opened(tmp_path / "*.tar", streaming, image_key="top")
    with pytest.raises(DataError, match="give only one of them"):
        opened(tmp_path / "*.tar", streaming, image_key="left", image_column="right.png")


@BOTH
def test_an_image_beside_others_that_belong_to_it(tmp_path, streaming):
    """Only one of them has no name of its own: that is the image."""
    write(tmp_path / "a.tar", ((f"{i}.{kind}", IMAGES[i]) for i in range(6) for kind in ("seg.png", "jpg")))
    rows = opened(tmp_path / "a.tar", streaming, columns=["seg.png"])
    assert found_images(rows) == list(range(6)) and rows.columns == ("seg.png",)
    write(tmp_path / "b.tar", ((f"{i}.{kind}", IMAGES[i]) for i in range(6) for kind in ("png", "jpg")))
    with pytest.raises(DataError, match="have several images, png, jpg: set image_key"):
        opened(tmp_path / "b.tar", streaming)
    assert found_images(opened(tmp_path / "b.tar", streaming, image_key="jpg")) == list(range(6))


def test_image_key_is_only_for_archives():
    with pytest.raises(DataError, match="is not an archive: set image_column to one of its columns, image"):
        load_rows("builtin/digits", image_key="left")


KEYS = {
    "folders": "sub.folder/{i}.{kind}",
    "current": "./{i}.{kind}",
    "numbers": "img.{i:03d}.{kind}",
    "hosts": "www.site-{i}.com_{i}.{kind}",
    "versions": "{i}.v{half}.{kind}",
    "upper": "{i}.{KIND}",
}


@BOTH
@pytest.mark.parametrize("pattern", KEYS.values(), ids=KEYS)
def test_keys_with_dots_and_folders_and_extensions_in_capitals(tmp_path, streaming, pattern):
    contents = (("jpg", None), ("cls", b"%d\n"), ("txt", b"text %d"))
    names = [
        (pattern.format(i=i, half=i % 2, kind=kind, KIND=kind.upper()), IMAGES[i] if text is None else text % i)
        for i in range(12)
        for kind, text in contents
    ]
    write(tmp_path / "a.tar", names)
    rows = opened(tmp_path / "a.tar", streaming, captioned=True)
    assert found_images(rows) == list(range(12)) and rows.captions == ("txt",)
    assert [row["label"] for row in rows.dataset] == list(range(12))
    assert [row["txt"] for row in rows.dataset] == [f"text {i}" for i in range(12)]
    rows = opened(tmp_path / "a.tar", streaming, label_column="CLS", caption_column="TXT", captioned=True)
    assert rows.labeled and rows.captions == ("txt",)


@BOTH
def test_samples_that_lack_members(tmp_path, streaming, caplog):
    members = [(f"{i}.{kind}", content) for i in range(12) for kind, content in (("jpg", IMAGES[i]), ("cls", b"1"))]
    lost = {"0.cls", "3.jpg"}
    write(tmp_path / "a.tar", ((name, content) for name, content in members if name not in lost))
    rows = opened(tmp_path / "a.tar", streaming)
    assert [row["label"] for row in rows.dataset] == [None] + [1] * 11
    assert found_images(rows) == [0, 1, 2, None, *range(4, 12)]
    assert unreadable(rows, 12) == {"row 3": "the row holds no image"}
    assert caplog.text.count("a.tar: 1 sample holds no image, only cls, e.g. 3;") == 1


@BOTH
def test_members_that_only_later_archives_have(tmp_path, streaming, caplog):
    """Columns are found in the first, the middle and the last archive; what is elsewhere is named."""
    for number, more in enumerate((None, "json", None, "cls", "seg")):
        members = [(f"{i}.jpg", IMAGES[i]) for i in range(4)]
        more_members = [(f"{i}.{more}", b"1") for i in range(4) if more]
        write(tmp_path / f"{number}.tar", sorted(members + more_members))
    rows = opened(tmp_path / "*.tar", streaming, label_column=None, columns=["seg"])
    assert len(list(rows.dataset)) == 20 and [row["seg"] for row in rows.dataset][-1] == b"1"
    assert "1.tar: 4 samples have a member .json, which is not read" in caplog.text and "e.g. 0;" in caplog.text


@BOTH
def test_empty_archives(tmp_path, streaming):
    write(tmp_path / "0.tar", [])
    (tmp_path / "1.tar").write_bytes(bytes(10240))
    with pytest.raises(DataError, match=r"0\.tar and 1 further archives hold no samples: files of one name"):
        opened(tmp_path / "*.tar", streaming)
    for number in (2, 4):
        write(tmp_path / f"{number}.tar", ((f"{i}.jpg", IMAGES[i]) for i in range(4)))
    write(tmp_path / "3.tar", [])
    rows = opened(tmp_path / "*.tar", streaming)
    assert found_images(rows) == [0, 1, 2, 3] * 2 and not unreadable(rows, 8)


@BOTH
def test_compressed_archives_and_members(tmp_path, streaming):
    meta = gzip.compress(b'{"label": 2}')
    members = [(f"{i}.{kind}", content) for i in range(6) for kind, content in (("jpg", IMAGES[i]), ("json.gz", meta))]
    for number, mode in enumerate(("w:gz", "w:bz2", "w:xz")):
        write(tmp_path / f"{number}.tar{mode.replace('w:', '.')}", members, mode)
    rows = opened(tmp_path / "*.tar.*", streaming)
    assert found_images(rows) == list(range(6)) * 3
    data = (tmp_path / "0.tar.gz").read_bytes()
    (tmp_path / "0.tar.gz").write_bytes(data[: len(data) // 2])
    found = unreadable(opened(tmp_path / "0.tar.gz", streaming), 3)
    assert len(found) == 1 and "0.tar.gz is cut off or damaged after" in str(found)


@BOTH
def test_patterns_with_braces(tmp_path, streaming):
    for number in range(9, 12):
        write(tmp_path / f"s-{number:03d}.tar", [(f"{number}.jpg", IMAGES[number])])
    files = str(tmp_path / "s-{009..011}.tar")
    assert found_images(opened(files, streaming)) == [9, 10, 11]
    assert found_images(opened(tmp_path / "s-{011,009}.tar", streaming)) == [11, 9]
    split = load_rows("webdataset", data_files={"test": [files]}, split="test", streaming=streaming)
    assert len(list(split.dataset)) == 3
    with pytest.raises(DataError, match=r"s-012\.tar"):
        opened(tmp_path / "s-{009..012}.tar", streaming)


@BOTH
def test_json_of_many_forms(tmp_path, streaming, caplog):
    """Fields come and go, change their types and are null at first: the label and the caption are read where they are."""
    texts = [{"label": i % 3, "caption": None if i < 3 else f"text {i}", "score": 1} for i in range(12)]
    texts[1] |= {"score": 0.5, "more": [{"a": 1}]}
    texts[4]["label"] = None
    encoded = [json.dumps(text).encode() for text in texts]
    encoded[5] = b"{broken"
    write(
        tmp_path / "a.tar", ((f"{i}.{k}", c) for i in range(12) for k, c in (("jpg", IMAGES[i]), ("json", encoded[i])))
    )
    late = {"label": "two", "caption": 5, "score": "high", "new": 1}
    write(tmp_path / "b.tar", [("0.jpg", IMAGES[0]), ("0.json", b"{}")])
    write(tmp_path / "c.tar", [("0.jpg", IMAGES[0]), ("0.json", b"{}"), *[(f"1{i}.json", b"{}") for i in range(16)],
                               ("99.jpg", IMAGES[1]), ("99.json", json.dumps(late).encode())])  # fmt: skip
    options = {"label_column": "json.label", "caption_column": "json.caption", "captioned": True, "columns": ["json"]}
    rows = list(opened(tmp_path / "*.tar", streaming, **options).dataset)
    assert [row["label"] for row in rows[:12]] == [0, 1, 2, 0, None, None, 0, 1, 2, 0, 1, 2]
    assert rows[7]["json"]["caption"] == "text 7" and rows[1]["json"]["score"] == 0.5 and rows[2]["json"]["score"] == 1
    assert rows[-1]["label"] is None and rows[-1]["json"]["caption"] == "5" and rows[-1]["json"]["score"] is None
    assert "a.tar: 1 sample has a .json that cannot be decoded and counts as missing, e.g. 5 (" in caplog.text
    assert "c.tar: 1 sample has another type of json.label than the first ones" in caplog.text
    assert "99 (json.label='two')" in caplog.text


@BOTH
def test_classes_by_numbers_and_texts_in_turn(tmp_path, streaming, caplog):
    write(tmp_path / "a.tar", ((f"{i}.{k}", c) for i in range(4) for k, c in (("jpg", IMAGES[i]), ("cls", b"007"))))
    more = [(f"{i}.jpg", IMAGES[i % 24]) for i in range(70)] + [("99.jpg", IMAGES[4]), ("99.cls", b"cat")]
    write(tmp_path / "b.tar", more)
    rows = opened(tmp_path / "*.tar", streaming)
    assert [row["label"] for row in rows.dataset] == [7] * 4 + [None] * 71
    assert "b.tar: 1 sample has another type of cls than the first ones" in caplog.text
    assert "e.g. 99 (cls='cat')" in caplog.text


@BOTH
def test_members_that_no_sample_can_have(tmp_path, streaming, caplog):
    """Two of one name, some without an extension, broken arrays: errors name archive and key, other rows stay."""
    members = [("README", b""), *((f"{i}.jpg", IMAGES[i]) for i in range(8)), ("7.JPG", IMAGES[9]), ("8.npy", b"none")]
    write(tmp_path / "a.tar", members)
    rows = opened(tmp_path / "a.tar", streaming)
    found = unreadable(rows, 9)
    assert sorted(name.split(" (")[0] for name in found) == ["row 7", "row 8"]
    assert any("a.tar, key 7: two of its members are called 7.jpg" in cause for cause in found.values())
    assert "a.tar: 1 files have no extension and are not read, e.g. README" in caplog.text
    assert "the members .npy of" in caplog.text


@BOTH
def test_a_second_image_where_the_first_samples_have_one(tmp_path, streaming):
    members = [(f"{i}.jpg", IMAGES[i % 24]) for i in range(130)]
    write(
        tmp_path / "a.tar",
        [*members, ("x.jpg", IMAGES[0]), ("x.png", IMAGES[1]), *((f"y{i}.txt", b"") for i in range(2))],
    )
    write(tmp_path / "b.tar", [(f"{i}.jpg", IMAGES[i % 24]) for i in range(2)])
    found = unreadable(opened(tmp_path / "*.tar", streaming), 135)
    assert any("a.tar, key x: it has several images, jpg, png" in cause for cause in found.values()), found


@BOTH
def test_images_are_never_decoded_before_the_loader(tmp_path, streaming, monkeypatch):
    monkeypatch.setattr(Image, "decode_example", lambda *_, **__: pytest.fail("decoded by datasets"))
    write(tmp_path / "a.tar", ((f"{i}.{kind}", IMAGES[i]) for i in range(4) for kind in ("left.jpg", "right.jpg")))
    rows = opened(tmp_path / "a.tar", streaming, image_key="left", columns=["right.jpg"])
    assert all(ImageReader().pixels(row["image"]).ndim == 3 for row in rows.dataset)
