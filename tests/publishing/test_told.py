"""The sentences of cards on what seldom happens: runs that changed their environment, weights that were loaded in part, nothing classified."""

import pytest

from hfcontrast.data.unreadable import kind_of
from hfcontrast.evaluation.counts import told_overlap
from hfcontrast.evaluation.protocol import Figure
from hfcontrast.publishing.facts import base_models, hub_data, relation
from hfcontrast.publishing.told import (
    told_data,
    told_nothing,
    told_setups,
    told_start,
    told_versions,
    told_weights,
)
from hfcontrast.training.starting_point import base_models_of

PART = {"tower": "", "name": "owner/name", "revision": None, "tensors": 9, "of_tensors": 9, "on_hub": True}
PART |= {"base_models": ["owner/name"]}
SETUP = {"device": "cpu", "processes": 1, "precision": "fp32", "versions": {"torch": "2.14"}}
DATA = {"name": "x", "kind": "hub", "config": None, "split": "train", "revision": None, "rows": 100, "streaming": False}
DATA |= {"epochs": 2.0, "labels": None, "unreadable": {}, "not_used": {}}


def test_a_run_that_went_on_elsewhere_says_from_which_step():
    setups = [{"from_step": 0, **SETUP}, {"from_step": 1500, **SETUP, "processes": 2, "versions": {"torch": "2.15"}}]
    assert told_setups(setups[:1]) == " on cpu, 1 process, fp32"
    told = told_setups(setups)
    assert "from step 0 on cpu, 1 process, fp32; from step 1,500 on cpu, 2 processes, fp32" in told
    assert told_versions(setups, {}) == "Versions (of the steps from 1,500 on): torch 2.15."
    assert told_setups(None) == "" and told_versions(None, {"torch": "2.14"}) == "Versions: torch 2.14."
    assert told_setups([{"from_step": 7, **SETUP}]).endswith("from step 7 on cpu, 1 process, fp32")  # not known before
    commit = {"torch": "2.14", "git_commit": "abc"}
    assert told_versions(None, commit) == "Versions: torch 2.14; the working directory was at commit `abc`."


def test_weights_that_were_loaded_in_part_and_towers_of_different_origin():
    start = {"weights": [{**PART, "tensors": 7}], "locked": [], "lora": None}
    (first, second) = told_start(start, two_towers=False)
    assert first.endswith(
        "(https://huggingface.co/owner/name), which gave 7 of 9 tensors; the others started at random."
    )
    assert second == "The whole encoder was trained further."
    parts = [{**PART, "tower": tower, "name": f"owner/{tower}", "revision": "abc"} for tower in ("vision", "text")]
    told = " ".join(told_start({"weights": parts, "locked": ["text"], "lora": None}, two_towers=True))
    assert "image tower started from the released weights [`owner/vision`]" in told and "revision `abc`" in told
    assert "text tower was locked" in told and "random" not in told
    assert (
        told_weights({**PART, "on_hub": False, "base_models": []})
        == "`owner/name`, a folder of the machine that trained"
    )


@pytest.mark.parametrize(
    "changes, steps, expected",
    [
        ({}, 20, "100 images, each read 2 times on average"),
        ({"epochs": 1.3333}, 14, "100 images, each read 1.3 times on average"),
        ({"epochs": 1333.3333}, 14000, "100 images, each read 1,333 times on average"),
        ({"epochs": 1}, 10, "100 images, each read once"),
        ({"epochs": 0.5}, 5, "100 images, of which 50 were read"),
        ({"rows": None}, 5, "a stream of unknown length, of which 50 images were read"),
        ({"config": "de", "revision": "v1"}, 5, "(configuration `de`, split `train`, revision `v1`)"),
        ({"unreadable": {"no caption": 2, "cannot be decoded": 1}}, 5, "3 rows left out of the training: no caption (2), cannot be decoded (1)."),
        ({"kind": "local"}, 5, "`x`, files of the machine that trained"),
        ({}, 5, "[`x`](https://huggingface.co/datasets/x)"),
    ],
)  # fmt: skip
def test_the_rows_of_a_run(changes, steps, expected):
    assert expected in " ".join(told_data(DATA | changes, steps, batch_size=10))


def test_what_was_evaluated_on_the_rows_of_the_training_or_not_at_all():
    assert told_overlap({"trained_on": 0}, "unused") is None and told_overlap({}, None) is None
    assert "may have been trained on some or all" in told_overlap({"trained_on": None}, None)
    assert "all of these test images too, their labels included" in told_overlap({"trained_on": "all"}, "used")
    assert (
        told_overlap({"trained_on": 1200, "test_rows": 5000}, None)
        == "The encoder was trained on 1,200 of the 5,000 test rows too."
    )
    told = told_nothing({"not_classified": "all rows of x are test rows: choose another split"}, "unused")
    assert told == "Nothing was classified: all labeled images that a classifier could be fitted to are test images."
    counts = {"test_images": 7}
    assert told_nothing(counts, None) == "Nothing was classified, as the data has no labels."
    assert (
        told_nothing(counts, "unused") == "Nothing was classified."
        and told_nothing({}, None) == "It was not evaluated."
    )
    assert "are near-duplicates" in told_nothing({"near_duplicates": 7}, "unused")


@pytest.mark.parametrize(
    "cause, kind",
    [
        ("cannot be decoded: OSError: image file is truncated (3 bytes not processed)", "cannot be decoded"),
        ("cannot be read: [Errno 2] No such file or directory: '/home/me/1.png'", "cannot be opened"),
        ("2 x 900 pixels: more than 100 times as long as wide", "more than 100 times as long as wide"),
        ("the row holds text that looks like base64, and no image: decode it to bytes", "no image"),
        ("there is no caption", "no caption"),
        ("'/etc/hosts' is a file of this machine that is not part of the data set: not opened", "an address or file outside of the data set"),
    ],
)  # fmt: skip
def test_causes_are_counted_without_what_is_of_one_row(cause, kind):
    assert kind_of(cause) == kind


@pytest.mark.parametrize(
    "card, expected",
    [
        ("---\nbase_model: owner/name\n---\n", ["owner/name"]),
        ("---\nbase_model: [a/b, c/d]\n---\n", ["a/b", "c/d"]),
        ("---\n: [\n---\n", []),
        ("# no metadata", []),
        (None, []),
    ],
)
def test_weights_of_a_folder_are_from_what_its_card_says(card, expected, tmp_path):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert base_models_of(tmp_path) == expected


def test_a_number_is_no_accuracy_in_the_metadata():
    assert Figure("share", "share").hub_metric == "accuracy"
    assert Figure("recall@1", "R@1", metric="recall").hub_metric == "recall"
    assert Figure("rank", "RankMe", "number").hub_metric == "rank"
    assert Figure("rank", "RankMe", "number", metric="rankme").hub_metric == "rankme"


def test_metadata_name_what_can_be_on_the_hub_alone():
    def facts(kind, name, *bases):
        weights = [{**PART, "base_models": list(bases)}]
        return {"data": {"kind": kind, "name": name}, "start": {"weights": weights, "locked": [], "lora": None}}

    found = facts("hub", "owner/set", "owner/model", "/home/me/model", "owner/model", "gpt2")
    assert hub_data(found) == ["owner/set"] and base_models(found) == ["owner/model", "gpt2"]
    assert relation(found) == "finetune" and relation({**found, "start": None}) is None
    assert hub_data(facts("local", "photos")) == [] and relation(facts("local", "photos", "not a name")) is None
    found["start"]["lora"] = {"r": 4}
    assert relation(found) == "adapter"
