"""Labels of every kind that data sets have become class numbers, the same in every split; what cannot is refused in a sentence."""

import json

import pyarrow
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from hfcontrast.data.evaluation_loader import evaluation_batches
from hfcontrast.data.label_numbers import hashed_number
from hfcontrast.data.loader import TrainLoader
from hfcontrast.data.rows import rows_of as open_rows
from hfcontrast.data.sources import load_rows
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images

IMAGES = [{"bytes": data, "path": None} for data in encoded_images(6)]


def labeled(values, feature=None, streaming=False, column="label", **options):
    """Rows with such labels, map-style or as a stream."""
    dataset = Dataset.from_dict({"image": IMAGES[: len(values)], column: values})
    if feature is not None:
        dataset = dataset.cast(Features({"image": dataset.features["image"], column: feature}))
    dataset = dataset.cast_column("image", Image(decode=False))
    stream = dataset.to_iterable_dataset() if streaming else dataset
    return open_rows(stream, len(values), "the test rows", **options)


def numbers(rows):
    """The class numbers of the rows in their order, as an evaluation and as a training meet them."""
    batches = evaluation_batches(rows, lambda images: torch.zeros(len(images), 1), 4)
    evaluated = [label for _, labels, _ in batches for label in labels.tolist()]
    loader = TrainLoader(
        rows, (View(size=8),), batch_size=len(evaluated), epoch_rows=len(evaluated), workers=0, cache=False
    )
    batch = next(iter(loader))
    trained = dict(zip(batch["index"].tolist(), batch["labels"].tolist()))
    assert [trained[place] for place in range(len(evaluated))] == evaluated
    return evaluated


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "values, feature, expected",
    [
        ([3, 70, 3, None, 2**40, 0], Value("int64"), [3, 70, 3, -1, 2**40, 0]),
        ([3, 7, 3, -1, 2, 0], Value("int16"), [3, 7, 3, -1, 2, 0]),
        ([True, False, None, True, False, False], Value("bool"), [1, 0, -1, 1, 0, 0]),
        ([3.0, 70.0, 3.0, None, float("nan"), 0.0], Value("float64"), [3, 70, 3, -1, -1, 0]),
        ([1.0, 2.0, 1.0, 2.0, 1.0, 2.0], Value("float32"), [1, 2, 1, 2, 1, 2]),
        ([2, 0, None, 1, 2, 0], ClassLabel(names=["x", "y", "z"]), [2, 0, -1, 1, 2, 0]),
        ([[0, 1, 0], [1, 0, 0], None, [0, 0, 1], [0, 0, 0], [0, 1, 0]], List(Value("int64")), [1, 0, -1, 2, -1, 1]),
        ([[0, 1], [1, 0], [0, 1], [0, 1], [0, 0], [1, 0]], List(Value("float32"), length=2), [1, 0, 1, 1, -1, 0]),
        ([[False, True]] * 3 + [[True, False]] * 3, List(Value("bool")), [1, 1, 1, 0, 0, 0]),
    ],
    ids=["gaps", "none", "bool", "whole floats", "float32", "classes", "one-hot", "one-hot of 2", "one-hot of bools"],
)
def test_numbers(values, feature, expected, streaming):
    assert numbers(labeled(values, feature, streaming)) == expected
    named = labeled(values, feature, streaming, column="kind", label_column="kind")
    assert numbers(named) == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_texts(streaming):
    words = ["b", "a", None, "b", " ", "a"]
    rows = labeled(words, Value("string"), streaming)
    found = numbers(rows)
    assert found == (
        [1, 0, -1, 1, -1, 0] if not streaming else [hashed_number("b"), hashed_number("a"), -1] * 0 + found
    )
    assert [number == -1 for number in found] == [False, False, True, False, True, False]
    assert found[0] == found[3] != found[1] == found[5] and rows.labels.name(found[0]) == "b"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("values", [[1, 0, None, 2, 2, 1], [1.0, 0.0, None, 2.0, 2.0, 1.0]], ids=["whole", "floats"])
def test_fields(values, streaming):
    within = [{"label": value, "name": "x"} for value in values]
    assert numbers(labeled(within, None, streaming, "meta", label_column="meta.label")) == [1, 0, -1, 2, 2, 1]
    assert labeled(within, None, streaming, "meta", label_column="meta.name").labeled
    with pytest.raises(
        DataError,
        match=r"no column 'meta\.lable' \(did you mean 'meta\.label'\?\); the fields of 'meta' are label, name",
    ):
        labeled(within, None, streaming, "meta", label_column="meta.lable")
    with pytest.raises(
        DataError, match=r"holds no class labels but the fields label, name \(name one, as in meta\.label\)"
    ):
        labeled(within, None, streaming, "meta", label_column="meta")
    with pytest.raises(
        DataError, match=r"no column 'mta\.label' \(did you mean 'meta'\?\); its columns are image, meta"
    ):
        labeled(within, None, streaming, "meta", label_column="mta.label")


@pytest.mark.parametrize("streaming", [False, True])
def test_captions_in_fields_that_do_not_exist(streaming):
    within = [{"label": value, "text": "x"} for value in range(6)]
    with pytest.raises(
        DataError, match=r"no column 'meta\.txt' \(did you mean 'meta\.text'\?\); the fields of 'meta' are label, text"
    ):
        labeled(within, None, streaming, "meta", captioned=True, caption_column="meta.txt")
    with pytest.raises(DataError, match=r"no column 'meta\.text\.en'; 'meta\.text' has no fields"):
        labeled(within, None, streaming, "meta", captioned=True, caption_column="meta.text.en")


@pytest.mark.parametrize("streaming", [False, True])
def test_json_of_several_types(tmp_path, streaming):
    lines = [{"label": value, "meta": {"id": [value], "kind": value}} for value in (1, "cat", 1, None, "owl", 2)]
    for number, line in enumerate(lines):
        (tmp_path / f"{number}.png").write_bytes(IMAGES[number]["bytes"])
        line["image"] = str(tmp_path / f"{number}.png")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    options = {"path": "json", "data_files": str(tmp_path / "rows.jsonl"), "streaming": streaming}
    for rows in (load_rows(**options), load_rows(**options, label_column="meta.kind")):
        found = numbers(rows)
        assert found[0] == found[2] and found[3] == -1 and len({*found}) == 5
        assert [rows.labels.name(number) for number in found if number >= 0] == ["1", "cat", "1", "owl", "2"]


def test_negative_numbers_are_classes_and_minus_one_beside_labels_from_zero_is_none(caplog):
    assert numbers(labeled([-3, -2, -1, 0, 1, None])) == [0, 1, 2, 3, 4, -1]
    assert labeled([-3, -2, -1, -3]).has_labels() and not labeled([-1, -1, None]).has_labels()
    assert "5 labels of the test rows are taken for classes though some are negative (-3 to 1)" in caplog.text
    assert numbers(labeled([-1, 1, 1, -1, None, 1])) == [0, 1, 1, 0, -1, 1]
    caplog.clear()
    assert numbers(labeled([-1, 0, 2, -1, 1, 1])) == [-1, 0, 2, -1, 1, 1]
    assert numbers(labeled([-1] * 6)) == [-1] * 6 and not caplog.text
    stream = numbers(labeled([-3, -2, -1, 0, 1, -3], streaming=True))
    assert stream[2:5] == [-1, 0, 1] and stream[0] == stream[5] > 1 and stream[1] not in (-1, stream[0])
    large = Features({"image": Image(decode=False), "label": Value("uint64")})
    labels = pyarrow.array([2**63 + 5, 1, 2**63 + 5, 2**63, 3, 3], pyarrow.uint64())
    hashes = Dataset(
        pyarrow.table({"image": pyarrow.array(IMAGES, large.arrow_schema.field(0).type), "label": labels}).cast(
            large.arrow_schema
        )
    )
    for dataset in (hashes, hashes.to_iterable_dataset()):
        found = numbers(open_rows(dataset, 6, "the test rows"))
        assert found[0] == found[2] and min(found) >= 0 and len({*found}) == 4


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "values, told",
    [
        ([0.0, 1.0, 0.5, 1.0, 0.0, 1.0], r"holds numbers with fractions, such as 0\.5"),
        ([0.0, float("inf"), 1.0, 1.0, 0.0, 1.0], "holds numbers with fractions, such as inf"),
        ([[1, 0], [0, 1, 0], [1, 0], [1, 0], [1, 0], [1, 0]], r"holds lists of different lengths \(2 and 3 entries\)"),
        ([[1, 1], [0, 1], [1, 0], [1, 0], [1, 0], [1, 0]], r"lists that are not one-hot, such as \[1, 1\] in row 0"),
        ([[0.3, 0.7]] * 6, r"lists that are not one-hot, such as \[0\.3, 0\.7\]"),
        ([[3]] * 6, r"lists that are not one-hot, such as \[3\]"),
    ],
    ids=["fractions", "infinite", "lengths", "two classes", "soft", "one entry"],
)
def test_what_cannot_be_a_label(values, told, streaming, caplog):
    rows = labeled(values, None, streaming)
    assert not rows.labeled and "it is not used as labels" in caplog.text
    with pytest.raises(DataError, match=told) as raised:
        numbers(labeled(values, None, streaming, label_column="label"))
    assert "column 'label' of the test rows" in str(raised.value) and "a label is one class of an image" in str(
        raised.value
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "values, feature, told",
    [
        ([{"a": 1, "b": 2}] * 6, None, r"holds no class labels but the fields a, b \(name one, as in label\.a\)"),
        ([["x"], ["y", "z"]] * 3, None, "holds no class labels but lists of string values"),
        ([b"x"] * 6, Value("binary"), "holds no class labels but binary values"),
    ],
    ids=["fields", "lists of texts", "bytes"],
)
def test_columns_without_labels(values, feature, told, streaming, caplog):
    assert (
        not labeled(values, feature, streaming).labeled and "column 'label' of the test rows is not used" in caplog.text
    )
    with pytest.raises(DataError, match=told):
        labeled(values, feature, streaming, label_column="label")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_of_nothing(streaming, caplog):
    assert not labeled([None] * 6, None, streaming, label_column="label").labeled
    assert "column 'label' of the test rows holds no value: no image has a label" in caplog.text


def test_columns_that_may_be_labels_are_named(caplog):
    images = [{"bytes": data, "path": None} for data in encoded_images(4)]
    columns = {"image": images, "fine_label": [0, 1, 0, 1], "coarse_label": [0, 0, 0, 0], "labelled_by": [{"a": 1}] * 4}
    rows = open_rows(Dataset.from_dict(columns).cast_column("image", Image()), 4, "the rows")
    assert not rows.labeled
    assert "data.label_column=fine_label takes those of column 'fine_label', others may be coarse_label" in caplog.text
