"""Scores are filed under the data that they were measured on: in tables, in the model index, by `evaluate`."""

from PIL import Image

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model, print_report
from hfcontrast.data.sources.source import Source
from hfcontrast.evaluation.rows import EvaluationRows
from hfcontrast.publishing.tables import model_index, score_table
from hfcontrast.recipe.published import data_name
from tests.evaluation.conftest import colored, save, tiny_clip

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TASKS = [
    {"task": "numbers", "path": "builtin/digits", "split": "test", "classes": DIGITS},
    {"task": "colors", "split": "train"},
    {"task": "own"},
]


def test_zero_shot_on_other_data(tmp_path, capsys):
    colored(24).to_parquet(tmp_path / "test.parquet")
    colored(12, seed=4).to_parquet(tmp_path / "train.parquet")
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "test")}
    settings, limit = {"zero-shot": {"tasks": TASKS}}, 10
    report = evaluate_model(
        save(tiny_clip(), tmp_path / "model"),
        DataSource("parquet", data_files=files),
        tasks=["zero-shot"],
        settings=settings,
        limit=limit,
    )
    counts = report["counts"]["zero-shot"]
    assert counts["top1_numbers"]["data"] == "builtin/digits (test)" and "data" not in counts["top1_own"]
    assert counts["top1_colors"]["data"] == "train.parquet (train)"
    assert report["measured_on"]["test"]["rows"] == 24 and report["measured_on"]["test"]["fingerprint"]
    print_report(report)
    assert "10 of 355 test images, 10 classes, on builtin/digits (test)" in " ".join(capsys.readouterr().out.split())


def test_files_of_a_format_are_called_by_their_folder_or_file(tmp_path):
    """By that of each task too, whose rows are opened before a run knows what its data are called."""
    for name in ("one", "two"):
        (tmp_path / name / "red").mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / name / "red" / "0.png")
    colored(4).to_parquet(tmp_path / "test.parquet")
    source = {"path": "imagefolder", "data_dir": str(tmp_path / "one")}
    rows = EvaluationRows(lambda: [], make=lambda rows: rows, source=source, split="train")
    tasks = [
        {"path": "imagefolder", "data_dir": str(tmp_path / "two")},
        {"path": "parquet", "data_files": [str(tmp_path / "test.parquet")]},
    ]
    opened = [rows.others(task, "train")[0] for task in (source, *tasks)]
    rows.call(None, data_name)
    assert rows.data_of(source, "train") is None
    assert [rows.data_of(task, "train").title for task in tasks] == ["two (train)", "test.parquet (train)"]
    assert [one.description for one in opened] == [
        f"{tmp_path}/{name} (split train)" for name in ("one", "two", "test.parquet")
    ]
    assert Source("owner/data", data_dir="two").title("train") == "owner/data"
    assert Source("parquet", data_files={"a": ["1", "2"], "b": "3"}).title("b[:5]+a") == "3"


def test_tables_and_model_index():
    data = {"name": "shapes", "split": "test", "config": None, "revision": None, "rows": 9, "fingerprint": "x"}
    other = {**data, "name": "owner/digits", "config": "small", "revision": "v2"}
    measured = {"test": data, "others": {"zero_shot_numbers": other}}
    trained = {"knn_accuracy": 0.5, "zero_shot_numbers": 0.25}
    columns, _ = score_table({"trained": trained, "measured_on": measured})
    assert columns == ["features", "kNN accuracy", "zero-shot numbers on owner/digits (small) (test)"]
    knn, numbers = model_index("shapes (test)", trained, measured, {"knn_accuracy": 0.4}, {"owner/digits"})
    assert (knn.dataset_type, knn.dataset_name, knn.dataset_split) == ("shapes", "shapes", "test")
    assert (numbers.dataset_type, numbers.dataset_config) == ("owner/digits", "small")
    assert (numbers.dataset_split, numbers.dataset_revision) == ("test", "v2")
    assert numbers.metric_value == 0.25 and numbers.dataset_name == "owner/digits"
    assert model_index("shapes (test)", trained, {}, {})[1].dataset_name == "shapes (test)"  # of an earlier version
    one_class = {"knn_accuracy": 1.0}  # all test images are of one: the figure says nothing
    assert [one.metric_value for one in model_index("shapes (test)", trained, measured, one_class)] == [0.25]
