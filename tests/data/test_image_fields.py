"""Images in fields of columns: read like those of a column, undecoded, map-style and as a stream."""

import pytest
from datasets import Dataset, Features, Image, Value

from hfcontrast.data.rows import rows_of
from hfcontrast.errors import DataError
from tests.data.conftest import encoded_images

IMAGES = [*encoded_images(2), b"no image"]


def opened(values, features=None, streaming=False, **columns):
    data = Dataset.from_list(values, features=features)
    return rows_of(data.to_iterable_dataset() if streaming else data, len(data), "the data", **columns)


def read(rows):
    return [row["image"]["bytes"] for row in rows.dataset]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", [lambda data: {"bytes": data, "path": "x.png"}, lambda data: {"bytes": data}, bytes])
def test_images_in_a_field(form, streaming):
    values = [{"a": {"b": {"photo": form(data)}, "label": i % 2, "text": "a cat"}} for i, data in enumerate(IMAGES)]
    columns = {"image_column": "a.b.photo", "label_column": "a.label", "caption_column": "a.text", "captioned": True}
    rows = opened(values, streaming=streaming, **columns)
    assert read(rows) == IMAGES and [row["label"] for row in rows.dataset] == [0, 1, 0]
    features = Features({"a": {"photo": Image(), "number": Value("int64")}})
    values = [{"a": {"photo": {"bytes": data, "path": None}, "number": 1}} for data in IMAGES] + [{"a": None}]
    rows = opened(values, features, streaming)  # the only one is found; one that is damaged stays as it is
    assert [row["image"] and row["image"]["bytes"] for row in rows.dataset] == [*IMAGES, None]


def test_a_column_of_bytes_without_names():
    values = [{"image": {"bytes": data}} for data in IMAGES]
    assert read(opened(values)) == read(opened(values, streaming=True)) == IMAGES


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (None, "has images in the fields a.left, a.right: set image_column"),
        ("a.lef", r"no column 'a.lef' \(did you mean 'a.left'\?\)"),
        ("a.number", "field 'a.number' of the data holds no images but"),
    ],
)
def test_fields_that_are_not_meant_are_told(image, told):
    values = [{"a": {"left": {"bytes": data}, "right": {"bytes": data}, "number": 1}} for data in IMAGES]
    with pytest.raises(DataError, match=told):
        opened(values, image_column=image)
