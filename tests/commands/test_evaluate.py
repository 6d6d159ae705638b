"""`hfcontrast evaluate`: the figures are those of the evaluators, and what cannot be evaluated is reported."""

import json

import pytest
import torch
from datasets import Dataset, DatasetDict, Value
from transformers import BitImageProcessor, ViTConfig, ViTModel

from hfcontrast.commands import cli
from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.commands.models import open_model
from hfcontrast.data import load_rows
from hfcontrast.errors import DataError, HFContrastError
from hfcontrast.evaluation.batches import Batches
from hfcontrast.evaluation.finetune import FineTuning, finetune_accuracy
from hfcontrast.evaluation.held_out import hold_out_a_fifth
from hfcontrast.evaluation.knn import knn_accuracy
from hfcontrast.evaluation.linear_probe import linear_accuracy
from hfcontrast.evaluation.registry import evaluators
from hfcontrast.evaluation.retrieval import retrieve_rows
from hfcontrast.evaluation.templates import SEVEN
from hfcontrast.evaluation.zero_shot import classify_rows
from hfcontrast.methods.dino import DINO
from hfcontrast.testing import build
from tests.evaluation.conftest import COLORS, colored, save, tiny_clip, tiny_processor

pytest_plugins = ["tests.evaluation.conftest"]
NAMES = [name.replace("_", " ") for name in COLORS]


def features_by_hand(
    folder: str, numbers: range, broken: tuple[int, ...], seed: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class tokens and labels with nothing but transformers."""
    model, processor = (
        ViTModel.from_pretrained(folder, add_pooling_layer=False).eval(),
        BitImageProcessor.from_pretrained(folder),
    )
    data, there = colored(len(numbers), seed=seed), [n for n in numbers if n not in broken]
    with torch.no_grad():
        pixels = processor([data[n]["image"] for n in there], return_tensors="pt").pixel_values
        return model(pixels).last_hidden_state[:, 0], torch.tensor([n % 4 for n in there])


def test_neighbors_and_probe_of_an_image_encoder(vit_folder, colors_folder):
    report = evaluate_model(vit_folder, DataSource(colors_folder), settings={"knn": {"k": 3}})
    bank, queries = features_by_hand(vit_folder, range(40), ()), features_by_hand(vit_folder, range(22), (5,), 4)
    # The bank's noise is drawn before an image is broken, so its others are the same; rows 3 and 17 are left out.
    kept = torch.tensor([n not in (3, 17) for n in range(40)])
    bank = (bank[0][kept], bank[1][kept])
    assert set(report["scores"]) == {"knn", "linear", "features"}
    assert report["scores"]["knn"] == {"accuracy": pytest.approx(knn_accuracy(*bank, *queries, 3)), "k": 3}
    assert report["scores"]["linear"] == {"accuracy": pytest.approx(linear_accuracy(*bank, *queries))}
    assert report["scores"]["features"]["images"] == 21
    read = {"test_images": 21, "of_test_images": 22, "train_images": 38, "of_train_images": 40}
    assert report["counts"]["linear"] == {"accuracy": read}
    assert report["counts"]["knn"] == {"accuracy": read | {"k": 3}}
    assert "(split test)" in report["test"] and "(split train)" in report["train"]


def test_all_that_a_model_with_two_towers_allows(clip_folder, colors_folder):
    report = evaluate_model(
        clip_folder,
        DataSource(colors_folder, caption_column="captions"),
        settings={"zero-shot": {"templates": [*SEVEN]}},
    )
    assert list(report["scores"]) == ["features", "knn", "linear", "zero-shot", "retrieval"]
    rows = load_rows(colors_folder, split="test", captioned=True, caption_column="captions")
    model, processor = tiny_clip(), tiny_processor()
    classified = classify_rows(model, processor, rows, class_names=NAMES, templates=SEVEN)
    assert report["scores"]["zero-shot"] == pytest.approx({**classified, "classes": 4, "templates": 7})
    assert report["scores"]["retrieval"] == pytest.approx(retrieve_rows(model, processor, rows))


def test_fine_tuning_is_done_when_asked_for(vit_folder, colors_folder, tmp_path, capsys):
    settings = {"epochs": 2, "batch_size": 8, "lr": 3e-3, "label_share": 0.5}
    report = evaluate_model(
        vit_folder, DataSource(colors_folder), tasks=["finetune", "knn"], settings={"finetune": settings}, batch_size=7
    )
    assert list(report["scores"]) == ["features", "knn", "finetune"] and "(split train)" in report["train"]
    model = ViTModel.from_pretrained(vit_folder, add_pooling_layer=False)
    processor = BitImageProcessor.from_pretrained(vit_folder)
    pixels, labels = {}, {}
    for split, count, broken, seed in (("train", 40, (3, 17), 3), ("test", 22, (5,), 4)):
        data, there = colored(count, seed=seed), [n for n in range(count) if n not in broken]
        pixels[split] = processor([data[n]["image"] for n in there], return_tensors="pt").pixel_values
        labels[split] = torch.tensor([n % 4 for n in there])
    bank, queries = ([(pixels[split], labels[split])] for split in ("train", "test"))
    expected = finetune_accuracy(model, lambda: bank, lambda: queries, FineTuning(**settings))
    assert report["scores"]["finetune"] == {"accuracy": pytest.approx(expected), "epochs": 2, "label_share": 0.5}
    arguments = ["evaluate", vit_folder, colors_folder, "--device", "cpu"]
    asked = ["--task", "finetune", "--epochs", "1", "--label-share", "0.25", "--layer-decay", "0.5", "--json", "-"]
    assert cli.main([*arguments, *asked]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert list(scores) == ["features", "finetune"]
    accuracy = scores["finetune"].pop("accuracy")
    assert 0 <= accuracy <= 1 and scores["finetune"] == {"epochs": 1, "label_share": 0.25, "layer_decay": 0.5}
    for wrong, expected in (
        (["--epochs", "3"], "add --task finetune"),
        (["--task", "knn", "--label-share", "0.5"], "add --task finetune"),
    ):
        assert cli.main([*arguments, *wrong]) == 2
        assert expected in capsys.readouterr().err
    for share in ("0", "1.5", "x"):
        with pytest.raises(SystemExit):
            cli.main([*arguments, "--task", "finetune", "--label-share", share])
        assert "above 0 and up to 1" in capsys.readouterr().err


def test_rows_that_are_not_kept_are_read_again(vit_folder, colors_folder, monkeypatch):
    settings = {"epochs": 2, "batch_size": 8, "label_share": 0.5}
    options = {"tasks": ["finetune"], "settings": {"finetune": settings}}
    kept = evaluate_model(vit_folder, DataSource(colors_folder), **options)["scores"]["finetune"]
    assert (
        kept == evaluate_model(vit_folder, DataSource(colors_folder, streaming=True), **options)["scores"]["finetune"]
    )
    monkeypatch.setattr("hfcontrast.evaluation.batches.CACHED_BYTES", 0)
    banks = []
    monkeypatch.setattr(
        Batches, "in_order", lambda self, rows, own=Batches.in_order: banks.append(len(rows)) or own(self, rows)
    )
    assert 0 <= evaluate_model(vit_folder, DataSource(colors_folder), **options)["scores"]["finetune"]["accuracy"] <= 1
    assert banks == [20, 20]


def test_streams_give_the_same_figures(clip_folder, colors_folder):
    reports = [
        evaluate_model(clip_folder, DataSource(colors_folder, streaming=streaming), settings={"knn": {"k": 3}})[
            "scores"
        ]
        for streaming in (False, True)
    ]
    assert reports[0].keys() == reports[1].keys() and len(reports[0]) == 5
    for task, values in reports[0].items():
        assert values == pytest.approx(reports[1][task], abs=1e-5)


def test_without_a_split_of_its_own_a_fifth_is_held_out(vit_folder, tmp_path):
    colored(40).to_parquet(tmp_path / "data.parquet")
    source = DataSource("parquet", data_files=str(tmp_path / "data.parquet"))
    report = evaluate_model(vit_folder, source, tasks=["knn"], settings={"knn": {"k": 3}})
    features, labels = features_by_hand(vit_folder, range(40), ())
    rows = load_rows(**source.keywords(), split="train")
    held_out = torch.isin(torch.arange(40), torch.tensor(hold_out_a_fifth(rows, "train").test.chosen))
    assert labels[held_out].bincount().tolist() == [2, 2, 2, 2]  # the classes come in turn
    expected = knn_accuracy(features[~held_out], labels[~held_out], features[held_out], labels[held_out], 3)
    assert report["scores"]["knn"]["accuracy"] == pytest.approx(expected)
    assert report["scores"]["features"]["images"] == 8 and "a fifth of it" in report["test"]


def test_tasks_templates_classes_and_limits_are_chosen(clip_folder, colors_folder):
    source, model, processor = DataSource(colors_folder), tiny_clip(), tiny_processor()
    report = evaluate_model(
        clip_folder,
        source,
        tasks=["zero-shot"],
        limit=8,
        settings={"zero-shot": {"classes": ["red", "green", "blue", "gray"]}},
    )
    rows = load_rows(colors_folder, split="test")
    names = ["red", "green", "blue", "gray"]
    expected = classify_rows(model, processor, rows, class_names=names, limit=8)
    assert list(report["scores"]) == ["features", "zero-shot"] and "train" not in report
    assert report["scores"]["zero-shot"]["top1"] == pytest.approx(expected["top1"])
    assert report["scores"]["features"]["images"] == 8
    report = evaluate_model(clip_folder, source, tasks=["retrieval"], split="train")
    rows = load_rows(colors_folder, captioned=True)
    found = retrieve_rows(model, processor, rows)  # with recall at 5 and 10 of 4 texts, which is always 100 %
    trivial = [found.pop(f"image_to_text_r{k}_unique_texts") for k in (5, 10)]
    assert report["scores"] == {"retrieval": pytest.approx(found)} and trivial == [1.0, 1.0]
    counts = {"images": 38, "texts": 38, "unique_texts": 4, "of_images": 40}
    assert report["counts"]["retrieval"]["text_to_image_r1"] == counts
    report = evaluate_model(clip_folder, source, tasks=["retrieval", "knn"], limit=9, settings={"knn": {"k": 50}})
    trained, (images, texts) = (
        report["scores"]["knn"]["k"],
        (report["counts"]["retrieval"]["image_to_text_r1"][name] for name in ("images", "texts")),
    )
    assert (
        report["counts"]["knn"]["accuracy"]["k"] == trained == report["counts"]["knn"]["accuracy"]["train_images"] <= 9
    )
    assert images == texts <= 9 and "image_to_text_r5" in report["scores"]["retrieval"]
    assert not {"image_to_text_r10", "text_to_image_r10"} & report["scores"]["retrieval"].keys()  # always 100 %


def test_a_saved_method_is_evaluated_by_the_encoder_that_it_would_publish(tmp_path, colors_folder):
    method = build(DINO)
    method.save_pretrained(tmp_path)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    report = evaluate_model(str(tmp_path), DataSource(colors_folder), tasks=["knn"])
    method.export_encoder().save_pretrained(tmp_path / "encoder")
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        tmp_path / "encoder"
    )
    assert (
        evaluate_model(str(tmp_path / "encoder"), DataSource(colors_folder), tasks=["knn"])["scores"]
        == report["scores"]
    )


def test_what_cannot_be_evaluated_is_reported(clip_folder, vit_folder, colors_folder, tmp_path):
    source = DataSource(colors_folder)
    with pytest.raises(HFContrastError, match="ViTModel has no text tower"):
        evaluate_model(vit_folder, source, tasks=["zero-shot"])
    with pytest.raises(HFContrastError, match="ViTModel has no text tower"):
        evaluate_model(vit_folder, source, tasks=["retrieval"])
    with pytest.raises(DataError, match="test cannot be evaluated on by classifiers that are fitted to it"):
        evaluate_model(vit_folder, source, split="test", train_split="test")
    with pytest.raises(DataError, match="no column 'sentences'; its columns are image, label, caption"):
        evaluate_model(clip_folder, DataSource(colors_folder, caption_column="sentences"))
    with pytest.raises(
        HFContrastError,
        match="no evaluator 'detection' is installed; installed: features, finetune, knn, label-free, linear, retrieval, zero-shot",
    ):
        evaluate_model(clip_folder, source, tasks=["detection"])
    with pytest.raises(HFContrastError, match="zero-shot.templates.0: expected text that matches"):
        evaluate_model(clip_folder, source, settings={"zero-shot": {"templates": ["a photo"]}})


def saved(folder, **splits: Dataset) -> DataSource:
    DatasetDict(splits).save_to_disk(folder)
    return DataSource(str(folder))


def test_data_without_labels_names_or_captions(clip_folder, vit_folder, tmp_path):
    bare = colored(6).select_columns(["image", "number"]).rename_column("number", "size_of_it")
    source = saved(tmp_path / "bare", test=bare)
    assert evaluate_model(clip_folder, source)["scores"].keys() == {"features", "label-free"}  # which need neither
    captioned = colored(6).rename_column("captions", "text").select_columns(["image", "text"])
    told = saved(tmp_path / "told", test=captioned)
    assert list(evaluate_model(clip_folder, told)["scores"]) == ["features", "retrieval"]
    assert list(evaluate_model(clip_folder, told, tasks=["retrieval"])["scores"]) == ["retrieval"]
    for task in ("knn", "zero-shot"):
        with pytest.raises(DataError, match="has no labels"):
            evaluate_model(clip_folder, source, tasks=[task])
    with pytest.raises(DataError, match="no column of captions; its columns are image, size_of_it"):
        evaluate_model(clip_folder, source, tasks=["retrieval"])
    numbers = colored(8).select_columns(["image", "label"]).cast_column("label", Value("int64"))
    source = saved(tmp_path / "numbers", test=numbers)
    with pytest.raises(DataError, match="numbers without names"):
        evaluate_model(clip_folder, source, tasks=["zero-shot"])
    with pytest.raises(HFContrastError, match="nothing can be evaluated"):  # of a test split alone
        evaluate_model(clip_folder, source)
    assert list(evaluate_model(clip_folder, source, settings={"zero-shot": {"classes": NAMES}})["scores"]) == [
        "features",
        "zero-shot",
    ]
    unlabeled = (
        colored(8, seed=4).select_columns(["image", "label"]).remove_columns("label").add_column("label", [-1] * 8)
    )
    source = saved(tmp_path / "unlabeled", train=numbers, test=unlabeled)
    with pytest.raises(DataError, match="there are labels for 8 images of .*train.* and 0 of .*test"):
        evaluate_model(vit_folder, source)


def test_other_classes_in_the_bank(vit_folder, tmp_path):
    other = colored(8).cast_column("label", colored(1).features["label"].__class__(names=["a", "b", "c", "d"]))
    with pytest.raises(DataError, match="the classes of .*test.* are not those of .*train"):
        evaluate_model(vit_folder, saved(tmp_path, train=colored(8), test=other))


def test_the_command_prints_a_table_and_json(clip_folder, colors_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    arguments = [
        "evaluate",
        clip_folder,
        colors_folder,
        "--caption-column",
        "captions",
        "--batch-size",
        "8",
        "--k",
        "3",
    ]
    assert cli.main([*arguments, "--json", str(tmp_path / "figures.json")]) == 0
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "figures.json").read_text())
    line = next(line for line in out.splitlines() if "image to text r1 " in line)
    assert line.split()[0] == "retrieval" and f"{100 * report['scores']['retrieval']['image_to_text_r1']:.1f} %" in line
    assert f"evaluated on {colors_folder} (split test), with train images of {colors_folder} (split train)" in out
    templates = tmp_path / "prompts.txt"
    templates.write_text("the {} picture\na {} square\n")
    asked = ["--task", "zero-shot", "--templates", str(templates), "--json", "-"]
    assert cli.main([*arguments, *asked]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["scores"]["zero-shot"]["templates"] == 2 and list(printed["scores"]) == ["features", "zero-shot"]
    for line in ("the {} picture", "a {} square"):
        asked += ["--template", line]
    assert cli.main([*arguments, *asked]) == 2
    assert "--template and --templates are both given" in capsys.readouterr().err
    asked = ["--task", "zero-shot", "--template", "the {} picture", "--template", "a {} square", "--json", "-"]
    assert cli.main([*arguments, *asked, "--classes", "red", "green", "blue", "dark gray"]) == 0
    assert json.loads(capsys.readouterr().out) == printed
    assert cli.main([*arguments, "--json", str(tmp_path / "no" / "where")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "result.json").write_text(
        '{"recipe_hash": "a", "scores": {}}'
    )  # else compare would find other figures in it
    assert cli.main([*arguments, "--json", str(tmp_path / "result.json")]) == 2
    assert "is a file that a run or a comparison has left" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path), colors_folder]) == 2
    assert "cannot be loaded as a model" in capsys.readouterr().err


def test_a_pooler_that_was_trained_is_kept(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8))
    model.save_pretrained(tmp_path)
    opened = open_model(str(tmp_path), device="cpu")
    torch.testing.assert_close(opened.model.pooler.dense.weight, model.pooler.dense.weight)
    assert not opened.model.training


def test_weights_that_are_missing_are_named(tmp_path, caplog):
    model = tiny_clip()
    weights = {name: value for name, value in model.state_dict().items() if name != "text_projection.weight"}
    model.save_pretrained(tmp_path, state_dict=weights)
    open_model(str(tmp_path), device="cpu")
    assert "1 tensors are not in the weights and stay random, e.g. text_projection.weight" in caplog.text


def test_half_precision_weights_are_evaluated_in_float32(tmp_path):
    save(tiny_clip().to(torch.bfloat16), tmp_path)
    assert open_model(str(tmp_path), device="cpu").model.dtype == torch.float32


def test_names_of_before_work_with_a_warning(clip_folder, vit_folder, colors_folder, capsys):
    source, settings = (
        DataSource(colors_folder),
        {"knn": {"k": 3}, "zero-shot": {"templates": ["{}"], "classes": NAMES}},
    )
    new = evaluate_model(clip_folder, source, tasks=["knn", "zero-shot"], settings=settings, train_split="train[:24]")
    old = {"k": 3, "templates": ("{}",), "class_names": NAMES, "bank_split": "train[:24]", "finetuning": FineTuning()}
    with pytest.warns(FutureWarning, match="bank_split is train_split now") as caught:
        assert evaluate_model(clip_folder, source, tasks=["knn", "zero-shot"], **old) == new
    assert len(caught) == 5 and new["judged"] == new["test"] and new["bank"] == new["train"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'kk'"):
        evaluate_model(clip_folder, source, kk=3)
    arguments = ["evaluate", vit_folder, colors_folder, "--task", "knn", "--json", "-"]
    assert cli.main([*arguments, "--set", "knn.k=3", "--train-split", "train[:24]"]) == 0
    new = json.loads(capsys.readouterr().out)
    assert cli.main([*arguments, "--k", "3", "--bank-split", "train[:24]"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == new and "warning: --bank-split is called --train-split now" in shown.err
    for wrong, expected in (
        (["--bank-split", "a", "--train-split", "b"], "both are given"),
        (["--set", "knn.k=0"], "knn.k: expected a whole number of at least 1, got 0"),
        (["--set", "knn=3"], "expected TASK.KEY=VALUE"),
        (
            ["--set", "linear.strengths=[1.0]"],
            "settings of linear are given, which is not evaluated: add --task linear",
        ),
    ):
        assert cli.main([*arguments, *wrong]) == 2
        assert expected in capsys.readouterr().err


def test_help_has_every_evaluator_and_its_settings(capsys):
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, evaluator in evaluators().items():
        assert f"{name}: {evaluator.summary()}" in text
        assert all(f"{name}.{key}: " in text for key in evaluator.settings_class.model_fields)
