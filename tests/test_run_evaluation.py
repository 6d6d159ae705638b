"""The data that a run is evaluated on."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from hfcontrast.data import load_rows
from hfcontrast.errors import DataError
from hfcontrast.evaluation.rows import EvaluationRows
from hfcontrast.evaluation.zero_shot_task import ZeroShotEvaluator
from hfcontrast.recipe import load_recipe
from hfcontrast.recipe.tasks import named_refusal
from hfcontrast.run_evaluation import draws_rows, held_out

LABELS = ClassLabel(names=["a", "b"])


def data(count, label=None):
    image = PILImage.fromarray(np.zeros((8, 8, 3), dtype=np.uint8))
    columns, features = {"image": [image] * count}, {"image": Image()}
    if label is not None:
        columns["label"], features["label"] = [i % 2 for i in range(count)], label
    return Dataset.from_dict(columns, features=Features(features))


def chosen(path, **parts):
    """Which rows are train and test rows of a data set with these splits, and what they are called."""
    DatasetDict(parts).save_to_disk(path)
    recipe = load_recipe(
        {"method": {"name": "simclr"}, "backbone": "timm/resnet18", "data": {"path": str(path)}, "train": {"steps": 1}}
    )
    found = held_out(recipe, load_rows(str(path)))
    return found.train.num_rows, found.test.num_rows, f"({found.where})"


def test_the_split_that_can_be_classified_comes_first(tmp_path):
    train = data(10, LABELS)
    assert chosen(tmp_path / "0", train=train, test=data(4, LABELS), validation=data(3, LABELS)) == (10, 4, "(test)")
    assert chosen(tmp_path / "1", train=train, test=data(4), dev=data(3, LABELS)) == (10, 3, "(dev)")
    assert chosen(tmp_path / "2", train=train, test=data(4)) == (10, 4, "(test)")  # then nothing is classified
    assert chosen(tmp_path / "3", train=data(10), test=data(4)) == (10, 4, "(test)")
    assert chosen(tmp_path / "4", train=train, extra=data(4, LABELS)) == (8, 2, "(a fifth of train)")
    with pytest.raises(DataError, match="the classes of .*test.* are not those of"):
        chosen(tmp_path / "5", train=train, test=data(4, ClassLabel(names=["x", "c"])))


def test_folders_beside_it_are_passed_over_where_they_do_not_fit(tmp_path):
    for name, label in (("test", ClassLabel(names=["x", "c"])), ("val", None), ("train", LABELS)):
        data(10, label).save_to_disk(tmp_path / "set" / name)
    recipe = {"method": {"name": "simclr"}, "backbone": "timm/resnet18", "train": {"steps": 1}}
    recipe = load_recipe({**recipe, "data": {"path": str(tmp_path / "set" / "train")}})
    rows = load_rows(recipe.data.path)
    assert held_out(recipe, rows).where == "a fifth of train"
    data(7, LABELS).save_to_disk(tmp_path / "set" / "dev")
    found = held_out(recipe, rows)
    assert (found.train.num_rows, found.test.num_rows) == (10, 7) and found.where == "folder dev beside it"
    assert str(tmp_path / "set" / "dev") in found.test.description


@pytest.mark.parametrize("label", [None, LABELS, Value("int64")])
def test_nothing_is_held_out_of_a_few_images(label, tmp_path):
    with pytest.raises(DataError, match=r"has 4 rows and no test split: .*eval.path"):
        chosen(tmp_path / "data", train=data(4, label))
    assert chosen(tmp_path / "more", train=data(5, label))[:2] == (4, 1)


def test_conditions_say_where_rows_are_drawn(tmp_path):
    """Earlier versions drew others: their scores are no baseline of today's."""
    DatasetDict(train=data(10, LABELS)).save_to_disk(tmp_path / "fifth")
    DatasetDict(train=data(10, LABELS), test=data(6, LABELS)).save_to_disk(tmp_path / "splits")
    DatasetDict(train=data(10)).save_to_disk(tmp_path / "unlabeled")

    def drawn(name, **settings):
        values = {"method": {"name": "simclr"}, "backbone": "timm/resnet18", "train": {"steps": 1}, "eval": settings}
        recipe = load_recipe(values | {"data": {"path": str(tmp_path / name)}})
        return draws_rows(held_out(recipe, load_rows(str(tmp_path / name))), recipe.eval)

    assert drawn("fifth") and not drawn("splits") and not drawn("unlabeled")
    assert drawn("splits", max_test=5) and drawn("splits", max_train=5) and not drawn("splits", max_train=10)


def test_a_task_that_the_data_lacks_is_named_by_its_setting_with_the_way_to_leave_it_out(tmp_path):
    DatasetDict(test=data(6)).save_to_disk(tmp_path / "unlabeled")
    rows = EvaluationRows(None, make=lambda rows: None, source={"path": str(tmp_path / "unlabeled")}, split="test")
    evaluator = ZeroShotEvaluator()
    settings = evaluator.settings_class(tasks=[{"label_column": "label", "split": "test"}])
    with pytest.raises(DataError) as caught, named_refusal("zero-shot", named=False):
        evaluator.check(None, rows, settings)
    told = str(caught.value)
    assert told.startswith("eval.zero_shot: task 1 of zero-shot classification (label_column: label, split: test): ")
    assert "has no column 'label'" in told and told.endswith("; eval.zero_shot=[] leaves that evaluation out")
    with (
        pytest.raises(DataError, match="^eval.tasks.zero-shot: task 1 .*; eval.tasks.zero-shot=false leaves that"),
        named_refusal("zero-shot", named=True),
    ):
        evaluator.check(None, rows, settings)
    with (
        pytest.raises(DataError, match="^eval.tasks.own: no; eval.tasks.own=false leaves that evaluation out"),
        named_refusal("own", named=False),
    ):
        raise DataError("no")
