"""The table of a comparison."""

import json

import pytest

from hfcontrast.comparison import rows as rows_of
from hfcontrast.comparison.measured import told_trained_on
from hfcontrast.comparison.plan import plan
from hfcontrast.comparison.table import as_markdown, notes, print_table, summarize, table_cells, write_table

DINO = "{model_type: dinov2, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, patch_size: 4}"


@pytest.fixture
def runs(recipe_file, tmp_path, result):
    """Two recipes with two seeds; one run has failed and one is not finished."""
    planned = plan([recipe_file("one"), recipe_file("two", temperature="0.5}")], [], tmp_path, [0, 1])
    planned[0].result = result(planned[0], knn=0.5, pixels=True)
    planned[1].result = result(planned[1], knn=0.6)
    planned[2].error = "the pictures | are gone"
    return planned


def row(summary, name):
    return next(line for line in summary["rows"] if line["name"] == name)


def test_figures_are_means_over_the_seeds(runs):
    one = row(summarize(runs, []), "one")
    assert one["seeds"] == [0, 1] and one["recipe_hashes"] == [runs[0].hash, runs[1].hash]
    assert one["knn_accuracy"]["mean"] == pytest.approx(0.55) and one["knn_accuracy"]["values"] == [0.5, 0.6]
    assert one["knn_accuracy"]["std"] == pytest.approx(0.0707, abs=1e-4)  # 0.1 / sqrt(2)
    assert one["linear_accuracy"]["mean"] == pytest.approx(0.65)


def test_the_cells(runs):
    headings, rows = table_cells(summarize(runs, []))
    cells = {line[0]: dict(zip(headings, line)) for line in rows}
    assert cells["one"]["kNN accuracy, %"] == "55.0 ± 7.1" and cells["one"]["linear probe, %"] == "65.0 ± 7.1"
    assert cells["one"]["feature std"] == "0.90 ± 0.00" and cells["one"]["effective rank"] == "7.0 ± 0.0"
    assert cells["one"]["images/s"] == "1,234 ± 0" and cells["one"]["peak memory, MiB"] == "300 ± 0"
    assert cells["one"]["seed"] == "0, 1" and cells["one"]["recipe hash"] == f"{runs[0].hash[:8]}, {runs[1].hash[:8]}"
    assert cells["two"]["seed"] == "failed: 0; unfinished: 1" and cells["two"]["kNN accuracy, %"] == "–"
    assert cells["raw pixels"]["kNN accuracy, %"] == "40.0" and cells["raw pixels"]["seed"] == "–"
    assert (
        cells["untrained encoder"]["kNN accuracy, %"] == "30.0 ± 0.0" and cells["untrained encoder"]["seed"] == "0, 1"
    )
    assert list(cells) == ["raw pixels", "untrained encoder", "one", "two"]


def test_small_numbers_keep_their_digits(runs):
    for run in runs[:2]:
        run.result["scores"]["trained"] |= {"feature_std": 0.000678912 * (1 + run.seed), "effective_rank": 1234.56}
    headings, rows = table_cells(summary := summarize(runs, []))
    cells = dict(zip(headings, rows[-2]))
    assert cells["feature std"] == "0.001018 ± 0.0004801" and cells["effective rank"] == "1,234.6 ± 0.0"
    assert "0.001018" in as_markdown(summary)


def test_untrained_encoders_are_shown_once_each_with_the_recipes_that_have_them(recipe_file, tmp_path, result):
    files = [recipe_file("one"), recipe_file("two", temperature="0.5}"), recipe_file("three", backbone=DINO)]
    runs = plan(files, [], tmp_path)
    for run in runs:
        run.result = result(run, pixels=run.name == "one")
    names = [line["name"] for line in summarize(runs, [])["rows"]]
    assert names[:3] == ["raw pixels", "untrained encoder (one, two)", "untrained encoder (three)"]
    assert "Not the same in all runs: backbone." in notes(summarize(runs, []))


def test_an_encoder_that_a_method_builds_in_its_own_way_has_a_baseline_of_its_own(recipe_file, tmp_path, result):
    runs = plan([recipe_file("one"), recipe_file("two", temperature="0.5}")], [], tmp_path)
    for run in runs:
        run.result = result(run, pixels=run.name == "one")
    runs[1].result["scores"]["untrained"]["knn_accuracy"] += 0.1
    names = [line["name"] for line in summarize(runs, [])["rows"]]
    assert names[:3] == ["raw pixels", "untrained encoder (one)", "untrained encoder (two)"]


def test_data_without_labels_has_no_accuracy(recipe_file, tmp_path, result):
    run = plan([recipe_file("one")], [], tmp_path)[0]
    run.result = result(run)
    for scores in run.result["scores"].values():
        scores.pop("knn_accuracy", None), scores.pop("linear_accuracy", None)
    headings, rows = table_cells(summarize([run], []))
    assert headings == ["", "feature std", "effective rank", "images/s", "peak memory, MiB", "seed", "recipe hash"]
    assert rows[0][:3] == ["untrained encoder", "0.20", "2.0"]


def test_train_rows_that_are_test_rows_are_counted_below_the_table(runs):
    for run in runs[:2]:
        run.result["evaluation"] = {"test_images": 40, "shared_rows": 12}
    told = "Evaluated on builtin/digits (test); 12 train rows left out as they are test rows."
    assert told in notes(summarize(runs, []))


def test_chance_is_said_of_each_data_where_its_answers_differ(runs):
    def told():
        return [line for line in notes(summarize(runs, [])) if line.startswith("Chance")]

    for run in runs[:2]:
        run.result["chance_answers"] = {"knn_accuracy": "c"}
    assert told() == ["Chance: always the most frequent class, 'c'."]
    runs[1].result |= {"evaluated_on": "other (test)", "chance_answers": {}}
    assert told() == ["Chance on builtin/digits (test): always the most frequent class, 'c'."]


def test_fine_tuning_has_a_column_and_a_note_where_it_was_evaluated(runs):
    remark = "kNN understates masked image modeling"
    assert not any(remark in line for line in notes(summarize(runs, [])))
    for run in runs[:2]:
        run.result["scores"]["trained"]["finetune_accuracy"] = 0.8
    summary = summarize(runs, [])
    headings, rows = table_cells(summary)
    cells = {line[0]: dict(zip(headings, line)) for line in rows}
    assert headings.index("fine-tuning, %") == headings.index("linear probe, %") + 1
    assert cells["one"]["fine-tuning, %"] == "80.0 ± 0.0" and cells["raw pixels"]["fine-tuning, %"] == "–"
    assert sum(remark in line for line in notes(summary)) == 1


def test_the_files(runs, tmp_path):
    summary = summarize(runs, ["train.steps=3"])
    write_table(summary, tmp_path)
    assert json.loads((tmp_path / "table.json").read_text()) == summary
    text = (tmp_path / "table.md").read_text()
    assert text == as_markdown(summary)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 6 and len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert runs[0].hash in text
    for expected in (
        "- two, seed 0, failed: the pictures | are gone",
        "- Evaluated on builtin/digits (test).",
        "- Trained on cpu, 1 process with 1 thread, fp32, torch 2.99.",
        "- Overrides: train.steps=3",
        "mean ± standard deviation",
    ):
        assert expected in text


def test_it_is_printed(runs, capsys):
    print_table(summarize(runs, []))
    out = capsys.readouterr().out
    assert "55.0 ± 7.1" in out and "failed: the pictures | are gone" in out


def test_a_comparison_that_has_just_begun(recipe_file, tmp_path):
    summary = summarize(plan([recipe_file("one")], [], tmp_path), [])
    headings, rows = table_cells(summary)
    assert headings == ["", "seed", "recipe hash"] and rows[0][1] == "unfinished: 0"
    assert "| one |" in as_markdown(summary)


def test_what_begins_with_released_weights_has_a_starting_point(recipe_file, tmp_path, result):
    """Under its name of today, or of results that are older than it."""
    weights = "{pretrained: somewhere}"
    files = [recipe_file("new", backbone=weights), recipe_file("old", backbone=weights), recipe_file("scratch")]
    runs = plan(files, ["eval.finetune=false"], tmp_path / "out")
    for run in runs:
        run.result = result(run)
    runs[0].result["scores"]["starting_point"] = runs[0].result["scores"].pop("untrained")
    rows = {row["name"]: row["kind"] for row in summarize(runs, [])["rows"]}
    assert rows["starting point"] == "starting_point" and rows["untrained encoder"] == "untrained" and len(rows) == 5


def test_figures_of_different_numbers_of_images_do_not_stand_below_one_heading(recipe_file, tmp_path, result):
    runs = plan(
        [recipe_file("one"), recipe_file("two", temperature="0.5}"), recipe_file("old", temperature="0.3}")],
        [],
        tmp_path,
    )
    few, many = ({"test_images": n, "of_test_images": 40, "train_images": 20, "k": 20} for n in (8, 40))
    for run, numbers in zip(runs, (few, many)):
        run.result = result(run, counts={"knn_accuracy": numbers, "linear_accuracy": {"test_images": 40}})
    summary = summarize(runs[:2], [])
    assert row(summary, "one")["knn_accuracy"]["counts"] == [few]
    headings, rows = table_cells(summary)
    cells = {line[0]: dict(zip(headings, line)) for line in rows}
    first, second = (f"kNN accuracy, % ({n} test images, 20 train images, k = 20)" for n in ("8 of 40", "40"))
    assert (cells["one"][first], cells["one"][second]) == ("50.0", "–")
    assert (cells["two"][first], cells["two"][second]) == ("–", "50.0")
    assert "linear probe, %" in headings and "linear probe: 40 test images." in notes(summary)
    runs[2].result = result(runs[2])  # of an earlier version, which wrote no numbers
    headings, rows = table_cells(summarize(runs, []))
    assert dict(zip(headings, rows[-1]))["kNN accuracy, %"] == "50.0"
    assert dict(zip(headings, rows[-1]))["linear probe, %"] == "60.0"


def test_chance_is_a_row_and_baselines_above_a_recipe_are_said(runs):
    for run in runs[:2]:
        run.result["scores"]["chance"] = {"knn_accuracy": 0.1} | ({"linear_accuracy": 0.1} if run.seed else {})
        run.result["chance_answers"] = {"knn_accuracy": "seven"}
    runs[0].result["scores"]["raw_pixels"]["knn_accuracy"] = 0.57
    summary = summarize(runs, [])
    headings, rows = table_cells(summary)
    assert [line[0] for line in rows][:2] == ["chance", "raw pixels"]
    assert rows[0][1:3] == ["10.0", "10.0"] and dict(zip(headings, rows[0]))["seed"] == "–"
    assert "The baseline of raw pixels scores above one: kNN accuracy 57.0 % against 55.0 %." in notes(summary)
    assert "Chance: always the most frequent class, 'seven'." in notes(summary)
    runs[1].result["scores"]["chance"]["knn_accuracy"] = 0.2  # of other data
    assert row(summarize(runs, []), "chance (one)")["knn_accuracy"]["values"] in ([0.1], [0.2])


def test_a_run_that_finishes_while_the_table_is_made_is_not_yet_in_it(runs, result, monkeypatch):
    """Several runs may train at once, each with a thread that makes the table after it."""
    last, count = runs[3], rows_of.counts_of_runs

    def counted(own):
        found = count(own)
        last.result = result(last)
        return found

    monkeypatch.setattr(rows_of, "counts_of_runs", counted)
    assert row(summarize(runs, []), "two")["unfinished"] == [1]
    assert row(summarize(runs, []), "two")["seeds"] == [1]


def measured(title, rows, fingerprint, code="1"):
    """What a result says that it was measured on."""
    data = {"rows": rows, "fingerprint": f"blake2b:{fingerprint}"}
    record = {"test": data, "train": None, "evaluators": {"knn": {"settings": {}, "code": code}}}
    return {"evaluated_on": title, "measured_on": record}


def test_figures_of_different_data_have_columns_of_their_own(runs):
    """Of one name and as many rows too: the rows have changed between two runs."""
    for run in runs[:2]:
        run.result["counts"] = {"knn_accuracy": {"test_images": 40}}
    runs[0].result |= measured("digits (test)", 40, "aaaaaaaaaaaa")
    runs[1].result |= measured("digits (test)", 40, "bbbbbbbbbbbb", "2")
    headings, rows = table_cells(summary := summarize(runs, []))
    first, second = (
        f"kNN accuracy, % (on digits (test), fingerprint {print_}, 40 test images)" for print_ in ("a" * 8, "b" * 8)
    )
    assert {first, second} <= set(headings)
    assert (
        "rows that were evaluated on (40 with fingerprint aaaaaaaa, 40 with fingerprint bbbbbbbb)" in summary["unequal"]
    )
    assert "code of knn (1, 2)" in summary["unequal"]
    cells = [dict(zip(headings, line)) for line in rows]
    assert [line[first] for line in cells if line[""].startswith("untrained encoder")] == ["30.0", "–"]
    assert [line[second] for line in cells if line[""].startswith("untrained encoder")] == ["–", "30.0"]

    runs[1].result |= measured("shapes (test)", 40, "bbbbbbbbbbbb")
    assert "kNN accuracy, % (on shapes (test), 40 test images)" in table_cells(summarize(runs, []))[0]
    del runs[1].result["measured_on"]  # of an earlier version, by the same name
    runs[1].result["evaluated_on"] = "digits (test)"
    assert "kNN accuracy, %" in table_cells(summary := summarize(runs, []))[0] and summary["unequal"] == []


def test_what_learned_from_labels_and_what_was_trained_on_test_rows_is_told():
    def run(name, labels, trained_on):
        evaluation = {"trained_on": trained_on, "test_rows": 8}
        return {"name": name, "result": {"data": {"labels": labels}, "evaluation": evaluation}}

    runs = [run("a", "unused", "all"), run("b", "unused", "all"), run("c", "used", 3), {"name": "d", "result": None}]
    assert told_trained_on(runs) == [
        "Learned from the labels of the training images: c.",
        "a, b: the encoder was trained on all of these test images too, without their labels.",
        "c: the encoder was trained on 3 of the 8 test rows too, their labels included.",
    ]
    assert told_trained_on([run("a", "unused", 0)]) == []
