"""Errors in data, recipe or numbers stop a run with one clear sentence, exit code 2, and intact checkpoints."""

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from tiny_runs import metrics, run


def _picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _folder(path, broken: int, total: int = 100):
    """A folder of images of two classes, some of them cut off in the middle."""
    for number in range(total):
        target = path / ("cats" if number % 2 else "dogs")
        target.mkdir(parents=True, exist_ok=True)
        data = _picture(number)
        (target / f"{number}.png").write_bytes(data[: len(data) // 2] if number < broken else data)
    return f"data.path={path}"


def _refused(ended, *words: str) -> None:
    code, output = ended
    assert code == 2, output
    assert "Traceback" not in output, output
    message = output[output.index("error: ") :]
    for word in words:
        assert word in message, message


def test_unreadable_images_are_skipped_counted_and_named(recipe_file, tmp_path):
    source = _folder(tmp_path / "pictures", broken=3)
    code, output = run(recipe_file("simclr"), tmp_path / "run", source, "data.split=train", "data.max_unreadable=0.1")
    assert code == 0, output
    for name in ("0.png", "1.png", "2.png"):
        assert name in output
    assert metrics(tmp_path / "run")[-1]["step"] == 14


def test_too_many_unreadable_images_stop_the_run(recipe_file, tmp_path):
    source = _folder(tmp_path / "pictures", broken=30)
    ended = run(recipe_file("simclr"), tmp_path / "run", source, "data.split=train", "data.max_unreadable=0.1")
    _refused(ended, " of 100 rows", "data.max_unreadable", ".png")  # stopped as soon as they are too many


@pytest.mark.slow
def test_two_processes_stop_where_one_stops(recipe_file, tmp_path):
    """Neither of them meets 12 broken images of 100 in the first of three steps of 32."""
    source = _folder(tmp_path / "pictures", broken=12)
    options = (source, "data.split=train", "data.max_unreadable=0.11", "data.cache=false", "train.steps=3")
    for processes in (1, 2):
        ended = run(recipe_file("simclr"), tmp_path / f"run_{processes}", *options, processes=processes)
        _refused(ended, "12 of 100", "data.max_unreadable")


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["data.path=/nowhere/pictures"], ["/nowhere/pictures"]),
        (["data.image_column=picture"], ["picture", "image"]),
        (["data.split=training"], ["training", "train", "test"]),
        (["train.batch_size=4096"], ["4096", "200"]),
        (["views.view.size=1"], ["size", "2 pixels"]),
        (["data.path=builtin/numbers"], ["builtin/numbers", "builtin/digits"]),
        (["data.path=parquet"], ["parquet is a format", "data_files"]),
        (["train.output=/proc/nothing/run"], ["/proc/nothing"]),
    ],
    ids=["no path", "no column", "no split", "batch too large", "no pixels", "no builtin", "no files", "no folder"],
)
def test_mistakes_in_the_recipe(overrides, words, recipe_file, tmp_path):
    _refused(run(recipe_file("simclr"), tmp_path / "run", *overrides), *words)


def test_an_empty_data_set(recipe_file, tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["a"]), "note": Value("string")})
    Dataset.from_dict({"image": [], "label": [], "note": []}, features=features).save_to_disk(tmp_path / "empty")
    _refused(
        run(recipe_file("simclr"), tmp_path / "run", f"data.path={tmp_path / 'empty'}", "data.split=train"), "empty"
    )


def test_a_size_that_the_encoder_cannot_take(recipe_file, tmp_path):
    ended = run(recipe_file("dino"), tmp_path / "run", "views.local.size=10")
    _refused(ended, "view 'local' is 10 px", "patches of 4 px", "8 or 12")


def test_a_loss_that_is_no_number_keeps_the_checkpoints(recipe_file, tmp_path):
    recipe, output = recipe_file("simclr"), tmp_path / "run"
    ended = run(recipe, output, "optim.name=sgd", "optim.lr=1e30", "optim.warmup_steps=8", "train.checkpoint_every=1")
    _refused(ended, "the loss of step", "optim.lr")
    names = {path.name for path in (output / "checkpoints").iterdir()} - {"untrained.json", "recipe.yaml"}
    assert names and all(name.startswith("step_") for name in names)
    assert all(np.isfinite(line["loss"]) for line in metrics(output) if "loss" in line)


def test_a_damaged_checkpoint_is_named(recipe_file, tmp_path):
    recipe, output = recipe_file("simclr"), tmp_path / "run"
    assert run(recipe, output).code == 0
    newest = max((output / "checkpoints").glob("step_*"))
    (newest / "model.safetensors").write_bytes(b"half a file")
    _refused(run(recipe, output), newest.name, "remove this folder")


def test_images_without_labels_train(recipe_file, tmp_path):
    for number in range(80):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / f"{number}.png").write_bytes(_picture(number))
    code, output = run(
        recipe_file("simclr"), tmp_path / "run", f"data.path={tmp_path / 'pictures'}", "data.split=train"
    )
    assert code == 0, output
    assert "no labels" in output
    assert (tmp_path / "run" / "model.safetensors").exists()
