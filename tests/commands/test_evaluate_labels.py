"""`hfcontrast evaluate`: whatever labels are, the classes of the test split are those of the train split by name; others count as wrong."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, List, Value

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model, print_report
from hfcontrast.data import load_rows
from hfcontrast.data.aligned_labels import numbered_as
from hfcontrast.errors import DataError
from tests.evaluation.conftest import COLORS, colored

pytest_plugins = ["tests.evaluation.conftest"]
NAMES = list(COLORS)
TEXTS = ([*NAMES], Value("string"))
OF_TEST = [0, 1, 2, 3, 1, 2, 2, 3, 0, 2]  # classes of the test images, so that some of them are classified wrongly


def rows(classes, labels, feature) -> Dataset:
    """Images whose colors are as good as classes, and whose labels are those of another list of classes."""
    bare = colored(len(classes), seed=len(classes)).select_columns(["image"])
    return bare.add_column("label", [labels[number] for number in classes], feature=feature)


def saved(folder, train, test, streaming=False) -> DataSource:
    parts = {"train": rows([number % 4 for number in range(20)], *train), "test": rows(OF_TEST, *test)}
    DatasetDict(parts).save_to_disk(folder)
    return DataSource(str(folder), streaming=streaming)


@pytest.fixture(scope="module")
def plain(vit_folder, tmp_path_factory):
    """The report of class numbers as they are."""
    numbers = ([0, 1, 2, 3], Value("int64"))
    report = evaluate_model(vit_folder, saved(tmp_path_factory.mktemp("plain"), numbers, numbers), tasks=["knn"])
    assert 0 < report["scores"]["knn"]["accuracy"] < 1
    return report


@pytest.mark.parametrize(
    "train, test",
    [
        (TEXTS, TEXTS),
        (TEXTS, ([3, 2, 1, 0], ClassLabel(names=NAMES[::-1]))),
        (([3, 2, 1, 0], ClassLabel(names=NAMES[::-1])), TEXTS),
        (
            ([0, 1, 2, 3], ClassLabel(names=NAMES)),
            ([4, 3, 1, 0], ClassLabel(names=[*NAMES[:1:-1], "x", *NAMES[1::-1]])),
        ),
        (([-7, 3, -1, 40], Value("int64")), ([-7, 3, -1, 40], Value("int64"))),
        (([3.0, 0.0, 7.0, 2.0], Value("float64")), ([3, 0, 7, 2], Value("int32"))),
        (([3, 0, 7, 2], Value("int64")), (["3", "0", "7", "2"], Value("string"))),
        ((["3", "0", "7", "2"], Value("string")), ([3, 0, 7, 2], Value("int64"))),
        (
            ([[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]], List(Value("int8"))),
            ([3, 0, 2, 1], Value("int64")),
        ),
    ],
    ids=[
        "texts",
        "texts, classes",
        "classes, texts",
        "order",
        "negative",
        "floats",
        "texts of numbers",
        "numbers",
        "one-hot",
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_classes_are_matched_by_name(vit_folder, plain, train, test, streaming, tmp_path):
    if streaming and any(isinstance(label, int) and label < 0 for label in train[0]):
        pytest.skip("-1 is a class only where all labels are known")
    report = evaluate_model(vit_folder, saved(tmp_path, train, test, streaming), tasks=["knn"])
    assert report["scores"]["knn"] == plain["scores"]["knn"]
    assert report["evaluation"] == plain["evaluation"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "train, test",
    [
        (TEXTS, (["zebra", *NAMES[1:3], "yak"], Value("string"))),
        (([0, 1, 2, 3], ClassLabel(names=NAMES)), ([0, 2, 3, 1], ClassLabel(names=["zebra", "yak", *NAMES[1:3]]))),
        (([5, 6, 7, 8], Value("int64")), (["zebra", "6", "7", "yak"], Value("string"))),
    ],
    ids=["texts", "classes", "numbers"],
)
def test_classes_that_only_test_images_have_count_as_wrong(vit_folder, train, test, streaming, tmp_path, capsys):
    numbers = ([0, 1, 2, 3], Value("int64")), ([10, 1, 2, 13], Value("int64"))
    wrong = evaluate_model(vit_folder, saved(tmp_path / "numbers", *numbers), tasks=["knn"])
    assert wrong["evaluation"]["unknown_classes"] == ["10", "13"]
    source = saved(tmp_path / "named", train, test, streaming)
    report = evaluate_model(vit_folder, source, tasks=["knn"])
    assert report["scores"]["knn"] == wrong["scores"]["knn"]
    assert report["evaluation"]["unknown_class_test_images"] == 4 == OF_TEST.count(0) + OF_TEST.count(3)
    assert sorted(report["evaluation"]["unknown_classes"]) == ["yak", "zebra"]
    print_report(report)
    assert "4 test images count as wrong, as no train image has their class: " in capsys.readouterr().out
    settings = {"finetune": {"epochs": 1, "batch_size": 10}}
    tuned = evaluate_model(vit_folder, source, tasks=["finetune"], settings=settings)
    assert sorted(tuned["evaluation"]["unknown_classes"]) == ["yak", "zebra"]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_only_the_test_split_has_changes_nothing_of_the_training(tmp_path, streaming):
    found = []
    for name in ("aardvark", "zebra"):
        source = saved(tmp_path / name, TEXTS, ([name, *NAMES[1:]], Value("string")), streaming)
        train, test = (load_rows(**source.keywords(), split=split) for split in ("train", "test"))
        assert numbered_as(train, test).labels.name(
            train.labels.number(train.labels.number(0) if not streaming else "red")
        )
        found.append([train.labels.number(row["label"]) for row in train.dataset])
    assert found[0] == found[1] and len({*found[0]}) == 4


@pytest.mark.parametrize("test", [(["a", "b", "c", "d"], Value("string")), ([0, 1, 2, 3], ClassLabel(names=[*"wxyz"]))])
def test_classes_of_which_none_is_shared_are_refused(vit_folder, tmp_path, test):
    with pytest.raises(DataError, match="the classes of .*test.* are not those of .*train.*such as"):
        evaluate_model(vit_folder, saved(tmp_path / "named", TEXTS, test), tasks=["knn"])
    numbers = ([5, 6, 7, 8], Value("int64"))
    if isinstance(test[1], Value):
        with pytest.raises(DataError, match=r"such as a, b, c and numbers"):
            evaluate_model(vit_folder, saved(tmp_path / "numbers", numbers, test), tasks=["knn"])


def test_zero_shot_knows_the_classes_of_the_test_split_alone(clip_folder, tmp_path):
    few = (["blue", "red", "red", "blue"], Value("string"))
    source = saved(tmp_path / "few", TEXTS, few)
    both = evaluate_model(clip_folder, source, tasks=["knn", "zero-shot"])
    alone = evaluate_model(clip_folder, source, tasks=["zero-shot"])
    assert both["scores"]["zero-shot"] == alone["scores"]["zero-shot"] and alone["scores"]["zero-shot"]["classes"] == 2
    stream = saved(tmp_path / "stream", TEXTS, few, streaming=True)
    with pytest.raises(DataError, match=r"texts of a stream, which are not known beforehand.*--classes"):
        evaluate_model(clip_folder, stream, tasks=["zero-shot"])
    named = {"zero-shot": {"classes": ["blue", "red"]}}
    told = evaluate_model(clip_folder, stream, tasks=["knn", "zero-shot"], settings=named)
    assert told["scores"]["zero-shot"]["top1"] == alone["scores"]["zero-shot"]["top1"]
    with pytest.raises(DataError, match="the label 'red' is none of the 1 class names that are given"):
        evaluate_model(clip_folder, stream, tasks=["zero-shot"], settings={"zero-shot": {"classes": ["blue"]}})


def test_two_processes_count_and_name_them_together(vit_folder, tmp_path, on_processes):
    source = saved(tmp_path / "x", TEXTS, (["zebra", *NAMES[1:3], "yak"], Value("string")), streaming=True)
    alone = evaluate_model(vit_folder, source, tasks=["knn"], device="cpu")
    for report in on_processes(lambda rank: evaluate_model(vit_folder, source, tasks=["knn"], device="cpu")):
        assert report["scores"]["knn"] == alone["scores"]["knn"] and report["evaluation"] == alone["evaluation"]
