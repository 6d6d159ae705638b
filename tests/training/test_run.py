"""What a finished run leaves: an encoder that plain transformers and timm load, its card, its curves, and a recipe that repeats it."""

import json
import re
import stat
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from test_resume import parquet_shards
from tiny_runs import RECIPES, REST, metrics, run
from transformers import AutoModel

import hfcontrast  # noqa: F401  (makes AutoModel know the methods)
from hfcontrast import run_training
from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.commands.models import open_model
from hfcontrast.data.decode import decode_image
from hfcontrast.data.sources import load_rows
from hfcontrast.data.subsets import LIMIT, drawn_rows
from hfcontrast.encoders import encode
from hfcontrast.evaluation.inputs import image_transform
from hfcontrast.recipe import load_recipe

TIMM = "{model_type: timm_wrapper, architecture: vit_tiny_patch16_224, model_args: {patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}}"

# A user's script: evaluates published folders with the packages that their cards name, and nothing else.
USER = """
import json, sys
sys.modules["hfcontrast"] = None  # importing it is an error
import numpy as np, torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import AutoImageProcessor, AutoModel, pipeline

torch.set_num_threads(1)
digits = load_digits()
images = [Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8)).convert("RGB") for image in digits.images]
rows, seen = {"train": [], "test": []}, [0] * 10
for i, digit in enumerate(digits.target):
    rows["test" if seen[digit] % 5 == 4 else "train"].append(i)
    seen[digit] += 1


def evaluate_model(folder, expression):
    processor = AutoImageProcessor.from_pretrained(folder)
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    model.eval()

    def features(split):
        chosen = [rows[split][place] for place in drawn[split]]
        with torch.no_grad():
            outputs = model(**processor([images[i] for i in chosen], return_tensors="pt"))
        found = eval(expression, {"outputs": outputs})
        return torch.nn.functional.normalize(found, dim=1), torch.tensor(digits.target[chosen])

    bank, classes = features("train")
    queries, truth = features("test")
    similarity, neighbors = (queries @ bank.T).topk(20, dim=1)
    votes = torch.zeros(32, 10).scatter_add_(1, classes[neighbors], (similarity / 0.07).exp())
    piped = pipeline("image-feature-extraction", model=model, image_processor=processor)(images[0])
    result = {
        "knn_accuracy": (votes.argmax(1) == truth).float().mean().item(),
        "feature_std": queries.std(0).mean().item() * queries.shape[1] ** 0.5,
        "problems": sorted(report["missing_keys"]) + sorted(report["unexpected_keys"]),
        "piped": list(torch.tensor(piped).shape),
    }
    if "timm" in folder:
        import timm

        own = timm.create_model("local-dir:" + folder, pretrained=True, num_classes=0).eval()
        pixels = processor(images[:8], return_tensors="pt")
        with torch.no_grad():
            result["timm"] = (own(pixels["pixel_values"]) - model(**pixels).pooler_output).abs().max().item()
    return result


folders, drawn = json.loads(sys.argv[1])
print(json.dumps([evaluate_model(folder, expression) for folder, expression in folders]))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Trains once; returns the run's folder."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def train(name, method, *overrides):
        if name not in done:
            recipe = folder / f"{name}.yaml"
            recipe.write_text(RECIPES[method] + REST)
            code, output = run(recipe, folder / name, *overrides)
            assert code == 0, output
            done[name] = folder / name
        return done[name]

    return train


ENCODERS = {
    "simclr": ("simclr",),
    "dino": ("dino",),
    "vit": (
        "dino",
        "backbone={model_type: vit, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, patch_size: 4}",
    ),
    "timm": ("dino", f"backbone={TIMM}", "track.to=[tensorboard]"),
}


@pytest.fixture(scope="module")
def evaluated_by_a_user(finished):
    """What a process without hfcontrast finds in the published folders."""
    folders = [finished(name, *arguments) for name, arguments in ENCODERS.items()]
    expressions = [re.search(r"^features = (.*?)  #", (f / "README.md").read_text(), re.M)[1] for f in folders]
    drawn = {}  # the rows that eval.max_train and eval.max_test leave
    for split, part, count in (("train", "train[:200]", 64), ("test", "test", 32)):
        labels = load_rows("builtin/digits", split=part).class_numbers()
        drawn[split] = drawn_rows(np.arange(len(labels)), count, LIMIT, labels, every_class=split == "train").tolist()
    arguments = json.dumps([[(str(folder), line) for folder, line in zip(folders, expressions)], drawn])
    ended = subprocess.run([sys.executable, "-c", USER, arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return dict(zip(ENCODERS, json.loads(ended.stdout.splitlines()[-1])))


@pytest.mark.parametrize("name", list(ENCODERS))
def test_the_published_encoder_without_hfcontrast_is_what_was_evaluated(name, finished, evaluated_by_a_user):
    evaluated, result = metrics(finished(name, *ENCODERS[name]))[-1]["eval"], evaluated_by_a_user[name]
    assert result["knn_accuracy"] == pytest.approx(evaluated["knn_accuracy"])
    assert result["feature_std"] == pytest.approx(evaluated["feature_std"], rel=1e-4)
    assert result["problems"] == []
    assert result["piped"][0] == 1
    assert result.get("timm", 0.0) < 1e-5


def test_the_whole_method_loads_with_heads_and_teacher(finished):
    folder = finished("dino", "dino")
    method = AutoModel.from_pretrained(folder / "method")
    newest = max((folder / "checkpoints").glob("step_*"))
    saved = load_file(newest / "model.safetensors")
    loaded = method.state_dict()
    assert loaded.keys() >= saved.keys()
    assert all(torch.equal(loaded[name], value) for name, value in saved.items())
    batch = {"pixel_values": torch.randn(4, 2, 3, 16, 16), "local_pixel_values": torch.randn(4, 2, 3, 8, 8)}
    loss = method.train()(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert not method.encoder.embeddings.mask_token.requires_grad  # frozen things stay frozen
    assert [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


def test_metrics_have_the_documented_keys(finished):
    lines = [json.loads(line) for line in (finished("simclr", "simclr") / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "eval" not in line]
    assert [line["step"] for line in training] == list(range(1, 15))
    assert all({"epoch", "loss", "lr", "images_per_second", "waiting"} <= line.keys() for line in training)
    evaluated = {line["step"]: line["eval"] for line in lines if "eval" in line}
    assert list(evaluated) == [7, 14]
    assert all(scores.keys() == {"knn_accuracy", "feature_std", "effective_rank"} for scores in evaluated.values())
    assert training[-1]["epoch"] == pytest.approx(14 / 6, abs=1e-3)  # six whole batches of 32 in 200 rows


def test_a_linear_probe_is_fitted_before_and_after_and_shown_with_the_other_scores(finished):
    folder = finished("probe", "simclr", "eval.linear_probe=true")
    evaluated = {line["step"]: line["eval"] for line in metrics(folder) if "eval" in line}
    assert "linear_accuracy" not in evaluated[7] and 0 < evaluated[14]["linear_accuracy"] <= 1
    plain = metrics(finished("simclr", "simclr"))
    assert [line for line in metrics(folder) if "loss" in line] == [line for line in plain if "loss" in line]
    scores = json.loads((folder / "result.json").read_text())["scores"]
    assert scores["trained"] == evaluated[14]
    card = (folder / "README.md").read_text()
    assert "| features | kNN accuracy | linear probe |" in card and "logistic regression" in card
    labels = {"raw_pixels": "raw pixels", "untrained": "untrained encoder", "trained": "trained encoder"}
    for name, label in labels.items():
        knn, linear = (f"{100 * scores[name][kind]:.1f} %" for kind in ("knn_accuracy", "linear_accuracy"))
        assert f"| {label} | {knn} | {linear} |" in card
    results = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    values = {metric["name"]: metric["value"] for result in results for metric in result["metrics"]}
    assert values == pytest.approx(
        {"kNN accuracy": evaluated[14]["knn_accuracy"], "linear probe": evaluated[14]["linear_accuracy"]}, abs=1e-4
    )


@pytest.mark.parametrize("name", ["vit", "timm"])
def test_the_cards_lines_give_the_features_that_are_evaluated_of_images_of_any_kind(name, finished, tmp_path):
    folder, exif = finished(name, *ENCODERS[name]), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    noise = torch.randint(0, 2**16, (20, 30), generator=torch.Generator().manual_seed(0)).numpy()
    Image.fromarray(noise.astype("uint8")).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(noise.astype("uint16")).save(tmp_path / "deep.png")
    Image.fromarray(noise.astype("uint8").repeat(4).reshape(20, 30, 4), "RGBA").save(tmp_path / "transparent.png")
    opened = open_model(str(folder), device="cpu")
    blocks = re.findall("```python\n(.*?)```", (folder / "README.md").read_text().split("## Fine-tune")[0], re.S)
    assert len(blocks) == 2
    for file in tmp_path.iterdir():
        names, found = {}, []
        for block in blocks:
            exec(block.replace(f'"{folder.name}"', repr(str(folder))).replace('"image.jpg"', repr(str(file))), names)
            found.append(names["features"])
        with torch.no_grad():
            pixels = image_transform(opened.image_processor)([decode_image(file.read_bytes())])
            expected = encode(opened.model, pixels)
        for features in found:
            torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


MORE = (
    "train.steps=4",
    "eval.every=",
    "eval.linear_probe=true",
    "eval.finetune={epochs: 20, batch_size: 16, lr: 0.02}",
)


def test_fine_tuning_before_and_after_is_shown_with_the_other_scores(finished):
    folder = finished("finetune", "simclr", *MORE)
    evaluated = {line["step"]: line["eval"] for line in metrics(folder) if "eval" in line}
    assert list(evaluated) == [4] and 0.2 < evaluated[4]["finetune_accuracy"] <= 1
    scores = json.loads((folder / "result.json").read_text())["scores"]
    assert scores["trained"] == evaluated[4] and "finetune_accuracy" in scores["untrained"]
    assert "finetune_accuracy" not in scores["raw_pixels"]
    card = " ".join((folder / "README.md").read_text().split())
    assert "on all labeled training images, for 20 epochs in batches of 16" in card
    accuracy = f"{100 * scores['trained']['finetune_accuracy']:.1f} %"
    assert f"{accuracy} |" in card and "| features | kNN accuracy | linear probe | fine-tuning |" in card


def test_a_finished_run_can_add_evaluators_and_keeps_its_notes(finished, recipe_file, tmp_path):
    recipe, folder = recipe_file("simclr"), tmp_path / "run"

    def found():
        notes = json.loads((max((folder / "checkpoints").glob("step_*")) / "run.json").read_text())["notes"]
        return notes, json.loads((folder / "result.json").read_text())

    assert run(recipe, folder, *MORE[:2]).code == 0
    before, first = found()
    assert before["images_per_second"] > 0
    assert run(recipe, folder, *MORE).code == 0
    after, second = found()
    assert second["scores"] == json.loads((finished("finetune", "simclr", *MORE) / "result.json").read_text())["scores"]
    added = dict.fromkeys(("scores", "counts", "measured_on", "chance_answers", "verdict"))
    assert {**first, **added} == {**second, **added}  # images/s and peak memory too
    assert after["untrained"] == second["scores"]["untrained"]  # so that it is not evaluated a third time
    changed = {name: before[name] for name in ("untrained", "untrained_conditions", "conditions")}
    assert {**after, **changed} == before


def test_files_obey_the_umask(finished):
    folder = finished("simclr", "simclr")
    (folder / "new").touch()
    expected = stat.S_IMODE((folder / "new").stat().st_mode)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {"model.safetensors", "optimizer.bin", "recipe.yaml"} <= {file.name for file in files}
    assert not [file for file in files if stat.S_IMODE(file.stat().st_mode) != expected]


def test_released_weights_are_a_starting_point_and_baselines_use_the_same_evaluation(finished, recipe_file, tmp_path):
    recipe, folder = recipe_file("simclr"), tmp_path / "run[/b]:dog:[bold]"  # no markup of rich
    folder.parent.mkdir()
    options = (f"backbone={{pretrained: {finished('simclr', 'simclr')}}}", "train.steps=1", "eval.baselines=encoder")
    code, first = run(recipe, folder, *options)
    assert code == 0 and f"Written: {folder}\n" in first, first
    scores = json.loads((folder / "result.json").read_text())["scores"]
    assert scores.keys() == {"chance", "starting_point", "trained"}
    card = (folder / "README.md").read_text()
    percent = f"{100 * scores['starting_point']['knn_accuracy']:.1f} %"
    assert f"| starting point | {percent} |" in card and re.search(f"│ starting point +│ {percent} +│", first)
    assert "started from the released weights `simclr`, a folder of the machine that trained" in card
    assert "alone, and from its biases" not in card
    assert "untrained" not in card.split("## How it was trained")[0] and "untrained encoder" not in first
    code, _ = run(recipe, folder, *options, "eval.path=builtin/shapes")
    elsewhere = json.loads((folder / "result.json").read_text())["scores"]
    assert code == 0 and elsewhere["starting_point"]["knn_accuracy"] != scores["starting_point"]["knn_accuracy"]
    code, last = run(recipe, folder, *options)
    assert code == 0 and last.split("Evaluated on")[1] == first.split("Evaluated on")[1]
    assert json.loads((folder / "result.json").read_text())["scores"] == scores


def test_a_baseline_that_is_asked_for_later_is_of_the_untrained_encoder(finished, recipe_file, tmp_path):
    recipe, folder = recipe_file("simclr"), tmp_path / "run"
    assert run(recipe, folder, "train.steps=4", "eval.baselines=false").code == 0
    assert run(recipe, folder, "train.steps=4", "eval.baselines=encoder").code == 0
    whole, late = (
        json.loads((f / "result.json").read_text())["scores"] for f in (finished("simclr", "simclr"), folder)
    )
    assert late["untrained"] == whole["untrained"] != late["trained"]


def test_the_untrained_encoder_alone_as_baseline(finished):
    folder = finished("encoder", "simclr", "eval.baselines=encoder", "train.steps=1")
    assert json.loads((folder / "result.json").read_text())["scores"].keys() == {"chance", "untrained", "trained"}
    card = (folder / "README.md").read_text()
    assert "| untrained encoder |" in card and "raw pixels" not in card


def test_the_figures_of_a_run_are_there_for_programs(finished):
    folder = finished("simclr", "simclr")
    result = json.loads((folder / "result.json").read_text())
    recipe = load_recipe(folder / "recipe.yaml")
    assert result["recipe_hash"] == recipe.fingerprint().hash
    assert (result["method"], result["seed"], result["steps"]) == ("simclr", 0, 14)
    assert result["scores"]["trained"] == metrics(folder)[-1]["eval"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = sorted(line["images_per_second"] for line in lines if "loss" in line)
    assert speeds[6] <= result["images_per_second"] <= speeds[7]
    assert 50 << 20 < result["peak_memory"] < 64 << 30
    assert (result["device"], result["processes"], result["threads"], result["precision"]) == ("cpu", 1, 1, "fp32")
    assert result["versions"]["torch"] == version("torch")
    assert result["evaluated_on"] == "builtin/digits (test)"


def test_a_resumed_run_has_no_result_until_it_is_finished(recipe_file, tmp_path, monkeypatch):
    def stopped(*_):
        raise RuntimeError("stopped")

    recipe, folder = recipe_file("simclr"), tmp_path / "run"
    assert run(recipe, folder, "train.steps=2").code == 0
    before = json.loads((folder / "result.json").read_text())
    assert run(recipe, folder, "train.steps=2", "eval.split=nowhere").code == 2
    assert (folder / "result.json").exists()  # refused before anything was done
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="stopped"):
        patched.setattr(run_training, "train", stopped)
        run_training.run_training(load_recipe(recipe, [f"train.output={folder}", "train.steps=2"]))
    assert not (folder / "result.json").exists()
    assert run(recipe, folder, "train.steps=2").code == 0
    after = json.loads((folder / "result.json").read_text())
    assert after["scores"] == before["scores"] and after["images_per_second"] == before["images_per_second"]


def test_tensorboard_gets_the_curves(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = finished("timm", *ENCODERS["timm"])
    events = EventAccumulator(str(folder / "hfcontrast"))
    events.Reload()
    losses = {line["step"]: line["loss"] for line in metrics(folder) if "loss" in line}
    assert {event.step: event.value for event in events.Scalars("loss")} == pytest.approx(losses, rel=1e-6)
    assert [event.step for event in events.Scalars("eval/knn_accuracy")] == [7, 14]


def test_the_environment_is_written_down(finished):
    versions = json.loads((finished("simclr", "simclr") / "environment.json").read_text())
    assert versions["torch"] == version("torch") and versions["hfcontrast"] == hfcontrast.__version__
    assert {"transformers", "datasets", "accelerate", "timm"} <= versions.keys()


def test_the_card_says_how_to_load_what_came_out_and_how(finished, tmp_path):
    folder = finished("simclr", "simclr")
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["pipeline_tag"] == "image-feature-extraction" and "simclr" in header["tags"]
    trained = metrics(folder)[-1]["eval"]["knn_accuracy"]
    assert header["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(trained, abs=1e-4)
    assert 'AutoModel.from_pretrained("simclr").eval()' in card and "AutoImageProcessor" in card
    assert f"| trained encoder | {100 * trained:.1f} % |" in card
    assert "| raw pixels |" in card and "| untrained encoder |" in card
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(re.search(r"```yaml\n(.*?)```", card, re.S)[1])
    assert load_recipe(recipe).fingerprint().hash == load_recipe(folder / "recipe.yaml").fingerprint().hash


def test_the_recipe_of_a_run_repeats_it(finished, tmp_path):
    folder = finished("dino", "dino")
    code, output = run(folder / "recipe.yaml", tmp_path / "again")
    assert code == 0, output
    assert metrics(tmp_path / "again") == metrics(folder)


def test_recomputed_activations_give_the_same_run(finished):
    """Also the same masks of drop path: the random state is restored for the second computation."""
    plain, recomputed = finished("dino", "dino"), finished("recomputed", "dino", "train.gradient_checkpointing=true")
    for expected, actual in zip(metrics(plain), metrics(recomputed), strict=True):
        assert actual.get("loss", 0.0) == pytest.approx(expected.get("loss", 0.0), rel=1e-4)


def test_recomputing_where_the_encoder_cannot(recipe_file, tmp_path):
    code, output = run(recipe_file("simclr"), tmp_path / "run", "train.gradient_checkpointing=true")
    assert code == 2 and "train.gradient_checkpointing" in output and "resnet" in output


def test_bfloat16_trains_and_publishes_float32(finished):
    folder = finished("bf16", "dino", "train.precision=bf16", "train.accumulation=2", "optim.name=sgd", "train.steps=4")
    assert all(value.dtype == torch.float32 for value in load_file(folder / "model.safetensors").values())
    assert "bf16" in (folder / "README.md").read_text()


def test_a_stream_of_parquet_knows_its_length_and_holds_rows_out(finished, tmp_path):
    """The shards have no test split and the recipe no epoch_rows."""
    shards = [argument for argument in parquet_shards(tmp_path) if not argument.startswith(("eval.", "data.epoch"))]
    folder = finished("stream", "simclr", "data.streaming=true", *shards)
    assert metrics(folder)[-2]["epoch"] == pytest.approx(14 / 6, abs=1e-3)
    assert "a fifth of train" in (folder / "README.md").read_text()


def test_going_on_from_a_published_timm_encoder_with_other_sizes(finished):
    source = finished("timm", *ENCODERS["timm"])
    larger = ("views.all.size=24", "views.local.size=12", "train.steps=2")
    folder = finished("larger", "dino", f"backbone={{pretrained: {source}}}", *larger)
    before, after = (load_file(f / "model.safetensors") for f in (source, folder))
    assert before["pos_embed"].shape == after["pos_embed"].shape
    assert torch.allclose(before["pos_embed"], after["pos_embed"], atol=0.1)
    assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["input_size"] == [3, 24, 24]


def test_a_folder_beside_the_trained_one_is_evaluated_on_and_its_images_are_no_neighbors(recipe_file, tmp_path):
    for split, first, count in (("train", 0, 40), ("test", 100, 8)):
        for seed in range(first, first + count):
            noise = torch.randint(0, 256, (6, 6, 3), generator=torch.Generator().manual_seed(seed)).byte().numpy()
            file = tmp_path / split / ("even" if seed % 2 == 0 else "odd") / f"{seed}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).resize((40, 40)).save(file)
    (tmp_path / "train/even/copy.png").write_bytes((tmp_path / "test/even/102.png").read_bytes())
    Image.open(tmp_path / "test/odd/103.png").save(tmp_path / "train/odd/copy.jpg", quality=90)
    data = (f"data={{path: imagefolder, data_dir: {tmp_path / 'train'}}}", "train.steps=1", "eval.max_train=null")
    code, output = run(recipe_file("simclr"), tmp_path / "run", *data)
    assert code == 0, output
    told = "8 images, by 40 train images; 2 train images left out as near-duplicates of test images"
    name = f"{tmp_path.name}/train (folder test beside it)"
    assert f"Evaluated on {name}: {told}" in output
    assert f"Evaluated on `{name}`: {told}." in (tmp_path / "run/README.md").read_text()
    counts = json.loads((tmp_path / "run/result.json").read_text())["evaluation"]
    assert counts == {
        "test_images": 8,
        "train_images": 40,
        "near_duplicates": 2,
        "unlabeled_test_images": 0,
        "unlabeled_train_images": 0,
        "test_classes": 2,
        "shared_rows": 0,
        "trained_on": 0,
        "test_rows": 8,
    }
    numbers = json.loads((tmp_path / "run/result.json").read_text())["counts"]["knn_accuracy"]
    assert numbers == {"test_images": 8, "of_test_images": 8, "train_images": 40, "of_train_images": 42, "k": 20}
    assert "kNN accuracy: 8 test images, 40 of 42 train images, k = 20" in output
    assert "Measured on 8 test images, 40 of 42 train images, k = 20." in (tmp_path / "run/README.md").read_text()
    report = evaluate_model(
        str(tmp_path / "run"), DataSource("imagefolder", data_dir=str(tmp_path / "train")), device="cpu"
    )
    assert report["near_duplicates"] == 2 and report["scores"]["features"]["images"] == 8
    assert report["test"].startswith(str(tmp_path / "test"))


def test_never_resuming_refuses_a_folder_with_a_run(finished):
    folder = finished("simclr", "simclr")
    code, output = run(folder.parent / "simclr.yaml", folder, "train.resume=never")
    assert code == 2
    assert "train.resume is never" in output and "choose another train.output" in output


def test_what_a_killed_run_was_just_writing_is_removed(recipe_file, tmp_path):
    leftover = tmp_path / "run" / ".unfinished_export"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    assert run(recipe_file("simclr"), tmp_path / "run", "train.steps=1").code == 0
    assert not leftover.exists()


def test_narrow_convolutions_are_not_channels_last_on_a_cpu():
    """oneDNN's backward pass ends the whole process with a segmentation fault there."""
    from hfcontrast.encoders import build_encoder
    from hfcontrast.encoders.model_config import backbone_config
    from hfcontrast.training.prepare import faster_channels_last

    def encoder(width):
        resnet = {"model_type": "resnet", "embedding_size": width, "hidden_sizes": [width, 2 * width], "depths": [1, 1]}
        return build_encoder(backbone_config({**resnet, "layer_type": "basic"}, [32]))

    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [faster_channels_last(encoder(width), cpu) for width in (8, 16)] == [False, True]
    assert faster_channels_last(encoder(8), gpu)


def test_a_run_says_which_train_rows_are_test_rows(recipe_file, tmp_path):
    data = ("data.split=test+train[:100]", "train.steps=1", "eval={max_train: null, max_test: 64, baselines: false}")
    code, output = run(recipe_file("simclr"), tmp_path / "some", *data)
    assert code == 0 and "355 train rows left out as they are test rows" in output.replace("\n", " ")
    evaluation = json.loads((tmp_path / "some" / "result.json").read_text())["evaluation"]
    assert evaluation["shared_rows"] == 355 and evaluation["train_images"] <= 100
    assert 0 < evaluation["trained_on"] <= 32  # of the rows of its only step
    code, output = run(recipe_file("simclr"), tmp_path / "all", *data[1:], "eval.split=train")
    told = "all rows of builtin/digits (split train[:200]) are rows of builtin/digits (split train) as well"
    assert code == 0 and f"warning: {told}" in output and output.replace("\n", " ").lower().count(told) == 1
    assert "Nothing was classified: all labeled images that a classifier" in output
    result = json.loads((tmp_path / "all" / "result.json").read_text())
    assert result["evaluation"]["trained_on"] == 32
    assert told in result["evaluation"]["not_classified"] and "knn_accuracy" not in result["scores"].get("trained", {})
    code, output = run(recipe_file("simclr"), tmp_path / "no", *data[1:], "eval.split=train", "eval.tasks={knn: {}}")
    assert code != 0 and f"eval.tasks.knn: {told}" in output and "Traceback" not in output
