"""Texts with more tokens than a model takes are counted wherever they are read."""

import pytest
from transformers import BatchEncoding

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.embed_data import embed, failures
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.evaluation.counts import told_numbers
from hfcontrast.evaluation.inputs import text_embeddings, tokenize
from tests.evaluation.conftest import COLORS, LENGTH, colored, tiny_clip, tiny_tokenizer

pytest_plugins = ["tests.evaluation.conftest"]

LONG = "a big red square " * LENGTH


@pytest.fixture
def source(tmp_path) -> DataSource:
    """Twelve rows, three of which have long captions, two of them the same."""
    rows = colored(12)
    captions = rows["caption"][:]
    captions[2], captions[5], captions[9] = LONG, LONG, LONG + "blue"
    rows.remove_columns("caption").add_column("caption", captions).to_parquet(tmp_path / "test.parquet")
    return DataSource("parquet", data_files={"test": str(tmp_path / "test.parquet")}, caption_column="caption")


def test_captions_and_prompts_of_evaluate(clip_folder, source):
    settings = {"zero-shot": {"templates": ["a photo of {}", LONG + "{}"]}}
    report = evaluate_model(clip_folder, source, tasks=["retrieval", "zero-shot"], settings=settings, device="cpu")
    recall = report["counts"]["retrieval"]["image_to_text_r1"]
    assert recall["texts_cut_off"] == 3 and "3 texts cut off" in told_numbers(recall)
    accuracy = report["counts"]["zero-shot"]["top1"]
    assert accuracy["prompts_cut_off"] == len(COLORS) and "4 prompts cut off" in told_numbers(accuracy)
    report = evaluate_model(clip_folder, source, tasks=["zero-shot"], device="cpu")
    assert "prompts_cut_off" not in report["counts"]["zero-shot"]["top1"]


def test_captions_of_embed(clip_folder, source, tmp_path):
    options = {"split": "test", "shard_rows": 8, "device": "cpu"}
    told = embed(clip_folder, source, tmp_path / "both", **options)
    assert told["captions_cut_off"] == 3 and [part["captions_cut_off"] for part in told["parts"]] == [2, 1]
    assert failures(told) == ", 3 captions cut off" and failures(told["parts"][1]) == ", 1 caption cut off"
    assert "captions_cut_off" not in embed(clip_folder, source, tmp_path / "images", what="images", **options)


def test_a_tokenizer_that_does_not_say_it(monkeypatch):
    tokenizer, exact = tiny_tokenizer(), "red " * (LENGTH - 2)
    cut: set[str] = set()
    text_embeddings(tiny_clip(), tokenizer, ["red", exact, LONG], cut=cut)
    assert cut == {LONG}
    monkeypatch.setattr(BatchEncoding, "encodings", None)  # as of one in Python
    cut.clear()
    tokenize(tiny_clip(), tokenizer, ["red", exact, LONG], cut)
    assert cut == {LONG}
