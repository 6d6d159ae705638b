"""Every encoder trains and is published so that the card's lines give what was evaluated, or is refused in one sentence.

The slow test goes over all of them and keeps the table of ``docs/encoders.md``, which ``write_table.py`` makes of the same runs.
"""

import card_reader
import pytest
import write_table
from encoder_runs import IMAGE, compare_card, outcome_of, write_data
from vision_types import tiny_backbone

# A pooled output; a class token without one; tokens without a class token; maps; maps of a backbone; a pooled map; timm's.
TRAINED = ["vit", "vit_msn", "pixtral", "segformer", "hgnet_v2", "textnet", "timm_wrapper"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def data(folder):
    return write_data(folder)


@pytest.mark.parametrize("name", TRAINED)
def test_an_encoder_is_published_with_lines_that_give_its_features(name, folder, data, monkeypatch):
    outcome = outcome_of(tiny_backbone(name), data, folder / name)
    assert outcome.refused is None and outcome.problems == []
    monkeypatch.chdir(folder)
    compare_card(folder / name, card_reader.read_card(name, IMAGE), outcome)
    assert outcome.problems == []


@pytest.mark.parametrize("name", ["llava", "videomae", "sam", "detr"])
def test_what_gives_no_features_of_an_image_is_refused_in_one_sentence(name, folder, data):
    outcome = outcome_of(tiny_backbone(name), data, folder / name)
    assert outcome.problems == [] and name in outcome.refused and "\n" not in outcome.refused


def test_both_towers_are_read_as_the_card_says(folder, data, monkeypatch):
    outcome = write_table.run_towers("clip", data, folder / "clip")
    monkeypatch.chdir(folder)
    compare_card(folder / "clip", card_reader.read_card("clip", IMAGE), outcome)
    assert outcome.refused is None and outcome.problems == []


def test_towers_without_a_scale_of_similarities_are_refused(folder, data):
    outcome = write_table.run_towers("align", data, folder / "align")
    assert outcome.problems == [] and "'align' has none (logit_scale)" in outcome.refused


@pytest.mark.slow
def test_every_encoder_is_as_the_table_of_the_documentation_says(folder):
    outcomes = write_table.all_outcomes(folder / "all")
    assert {name: outcome.problems for name, outcome in outcomes.items() if outcome.problems} == {}
    if write_table.PAGE.exists() and write_table.versions() in write_table.PAGE.read_text(encoding="utf-8"):
        assert write_table.PAGE.read_text(encoding="utf-8") == write_table.page(outcomes)
