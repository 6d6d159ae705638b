"""Noise with random labels is classified at chance by every evaluator, whatever names train and test rows are given."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.comparison.compare import compare
from hfcontrast.data import load_rows
from hfcontrast.errors import DataError
from hfcontrast.evaluation import batches
from hfcontrast.evaluation.counts import told_counts
from hfcontrast.evaluation.online import OnlineEvaluation, Task
from hfcontrast.evaluation.registry import get_evaluator
from hfcontrast.evaluation.rows import prepared_rows
from hfcontrast.recipe import load_recipe
from hfcontrast.run_evaluation import held_out
from tests.data.conftest import png
from tests.evaluation.conftest import tiny_clip, tiny_processor

TRAIN, TEST = 120, 100
SETTINGS = {"knn": {"k": 1}, "linear": {}, "finetune": {"epochs": 2, "batch_size": 16}, "zero-shot": {}}
# Train split, test split, and how many train rows are test rows.
WAYS = [
    ("train", "test", 0),
    ("train+test", "test", TEST),
    ("train[:80%]", "train[40%:]", 48),
    ("train+test", "test[50%:]+train[:20]", 70),
    ("train", "train[60%:]+test", 48),
]


def noise(count, seed):
    random = np.random.default_rng(seed)
    images = [{"bytes": png(random.integers(0, 256, (16, 16, 3)).astype("uint8")), "path": None} for _ in range(count)]
    captions = [" ".join(random.choice(["red", "green", "blue", "big", "small", "dark"], 5)) for _ in range(count)]
    features = Features(image=Image(), label=ClassLabel(names=["red", "blue"]), caption=Value("string"))
    labels = random.integers(0, 2, count).tolist()
    return Dataset.from_dict({"image": images, "label": labels, "caption": captions}, features=features)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Parquet files of the two splits, by their names."""
    root = tmp_path_factory.mktemp("noise")
    noise(TRAIN, 0).to_parquet(root / "train.parquet")
    noise(TEST, 1).to_parquet(root / "test.parquet")
    return {name: str(root / f"{name}.parquet") for name in ("train", "test")}


@pytest.fixture
def by_identity(monkeypatch):
    """Without the near-duplicates, which would find equal pixels."""
    monkeypatch.setattr(batches, "near_duplicates", lambda hashes, others: np.zeros(len(hashes), dtype=bool))


def check_chance(scores):
    """Two classes: within four standard deviations of at least 72 test images; 1 of 60 images and more is retrieved by chance."""
    for name, value in scores.items():
        if "accuracy" in name or "top1" in name:
            assert abs(value - 0.5) < 0.24, scores
        if name.endswith("_r1"):
            assert value < 0.15, scores


@pytest.mark.parametrize("train, test, shared", WAYS)
def test_evaluating_any_model_under_all_names_of_rows(clip_folder, files, by_identity, train, test, shared):
    tasks = list(SETTINGS) if shared == TEST else ["knn", "linear", "zero-shot"]
    options = {"tasks": tasks, "settings": {name: SETTINGS[name] for name in tasks}, "device": "cpu"}
    source = DataSource("parquet", data_files=files)
    report = evaluate_model(clip_folder, source, split=test, train_split=train, **options)
    assert report["evaluation"]["shared_rows"] == shared and report["scores"].keys() == {"features", *tasks}
    for found in report["scores"].values():
        check_chance(found)


def test_limits_streams_and_captions(clip_folder, files, by_identity):
    source, settings = DataSource("parquet", data_files=files), {"knn": {"k": 1}}
    report = evaluate_model(clip_folder, source, train_split="train+test", limit=90, tasks=["knn"], settings=settings)
    assert report["evaluation"]["train_images"] == report["evaluation"]["test_images"] == 90
    check_chance(report["scores"]["knn"])
    same = DataSource("parquet", data_files={"train": list(files.values()), "test": files["test"]}, streaming=True)
    report = evaluate_model(clip_folder, same, tasks=["knn", "retrieval"], settings=settings)
    assert report["evaluation"]["shared_rows"] == TEST and report["evaluation"]["train_images"] == TRAIN
    for found in report["scores"].values():
        check_chance(found)


@pytest.mark.parametrize("kind", ["parquet", "stream"])
def test_where_no_train_row_is_left_the_evaluation_is_refused(clip_folder, files, kind):
    source = DataSource("parquet", data_files=dict.fromkeys(files, files["train"]), streaming=kind == "stream")
    with pytest.raises(
        DataError, match=r"all rows of \S+train.parquet .split train. are rows of \S+train.parquet .split test. as well"
    ):
        evaluate_model(clip_folder, source, tasks=["knn"])
    source = DataSource("parquet", data_files=files)
    with pytest.raises(DataError, match="choose another split"):
        evaluate_model(clip_folder, source, tasks=["knn"], split="train+test")


@pytest.mark.parametrize("train, test, shared", [*WAYS, ("test", None, 0), ("train+test", None, TEST)])
def test_runs_under_all_names_of_rows(files, by_identity, train, test, shared):
    values = {"method": {"name": "simclr"}, "backbone": "timm/resnet18", "train": {"steps": 1}}
    data = {"path": "parquet", "data_files": {"test": files["test"]} if train == "test" else files, "split": train}
    recipe = load_recipe(values | {"data": data, "eval": {"split": test}})
    found = held_out(recipe, load_rows(**recipe.data.source()))
    processor, limits = tiny_processor(), {"max_train": None, "max_test": None}
    rows = prepared_rows(found.train, found.test, processor, size=16, batch_size=32, tokenizer=processor, **limits)
    tasks = {name: get_evaluator(name) for name in ("knn", "linear")}
    chosen = {name: Task(one, one.settings_class(**SETTINGS[name])) for name, one in tasks.items()}
    scores = OnlineEvaluation(rows, chosen)(tiny_clip(), thorough=True)
    if train != "test":  # a fifth of it is too few images for chance to be narrow
        check_chance(scores)
    assert scores.keys() == {"knn_accuracy", "linear_accuracy"} and rows.counts["shared_rows"] == shared
    assert (f"{shared} train rows left out as they are test rows" in told_counts(rows.counts)) == (shared > 0)
    json.dumps(rows.counts)


TOWER = "{hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2"
CLIP = f"{{model_type: clip, projection_dim: 16, vision_config: {TOWER}, patch_size: 8}}, text_config: {TOWER}}}}}"
COMPARED = """
method: {{name: {method}}}
backbone: {backbone}
data: {{path: parquet, data_files: {files}, split: {train}, workers: 0, cache: false}}
{text}
views: {{all: {{size: 16}}}}
optim: {{lr: 0.001}}
train: {{steps: 2, batch_size: 16, log_every: 1, device: cpu}}
eval: {{split: test, tasks: {{knn: {{k: 1}}}}}}
"""


@pytest.mark.slow
def test_comparing_where_train_rows_are_test_rows(files, tmp_path):
    """Real trainings, with towers of different texts: at chance, with a row for chance, and with what is not the same named."""
    small = "{model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}"
    for name, method, backbone, text in (
        ("image", "simclr", small, ""),
        ("long", "clip", CLIP, "text: {vocab_size: 600, max_length: 24}"),
        ("short", "clip", CLIP, "text: {vocab_size: 600, max_length: 6}"),
    ):
        values = {
            "method": method,
            "backbone": backbone,
            "text": text,
            "files": json.dumps(files),
            "train": "train+test",
        }
        (tmp_path / f"{name}.yaml").write_text(COMPARED.format(**values))
    recipes = [tmp_path / f"{name}.yaml" for name in ("image", "long", "short")]
    assert compare(recipes, output=tmp_path / "compared") == 0
    table = json.loads((tmp_path / "compared" / "table.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    for name in ("image", "long", "short"):
        keys = ["knn_accuracy", "linear_accuracy"] + ["zero_shot_label", "image_to_text_r1"] * (name != "image")
        check_chance({key: rows[name][key]["mean"] for key in keys})
    assert (
        rows["chance"]["image_to_text_r1"]["mean"] == pytest.approx(1 / TEST)
        and rows["chance"]["knn_accuracy"]["mean"] >= 0.5
    )
    assert "text.max_length (24, 6)" in table["unequal"] and "tokens of a text (24, 6)" in table["unequal"]
    text = (tmp_path / "compared" / "table.md").read_text()
    assert (
        "zero-shot label, %" in text
        and "text→image R@1, %" in text
        and f"{TEST} train rows left out as they are test rows" in text
    )
    for run in table["runs"]:
        test = run["result"]["measured_on"]["test"]
        assert test["rows"] == TEST  # with captions or without, the images are the same
        assert test["fingerprint"] == table["runs"][0]["result"]["measured_on"]["test"]["fingerprint"]
    assert compare(recipes, output=tmp_path / "compared") == 0  # begun before: nothing is trained again
    assert json.loads((tmp_path / "compared" / "table.json").read_text()) == table
