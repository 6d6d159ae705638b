"""Captions: which one is read is a function of seed, epoch and sample; what cannot be read is counted and named."""

import copy
import io
import json
import tarfile

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, tokenization_utils_base

from hfcontrast.data.captions import (
    CaptionReader,
    UnusableCaption,
    captions_of,
    control_tokens,
    find_captions,
    usable_captions,
)
from hfcontrast.data.loader import TrainLoader
from hfcontrast.data.sources import load_rows
from hfcontrast.data.tokenizer import train_tokenizer
from hfcontrast.errors import DataError
from hfcontrast.view import View

VIEWS = (View(size=8, scale=(1.0, 1.0)),)
WORDS = ("red", "green", "blue", "small", "large", "round")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([f"a {word} thing" for word in WORDS], 600, 16)


def picture(color: int) -> bytes:
    buffer = io.BytesIO()
    PILImage.new("RGB", (8, 8), (color % 256, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def saved(folder, captions: list, feature=None):
    columns = {"image": [{"bytes": picture(i), "path": None} for i in range(len(captions))], "caption": captions}
    features = Features({"image": Image(), "caption": feature or Value("string")})
    Dataset.from_dict(columns, features=features).save_to_disk(str(folder))
    return load_rows(str(folder), captioned=True)


def batches_of(rows, tokenizer, epochs: int = 1, **options) -> list[dict]:
    reader = CaptionReader(rows.captions, tokenizer, options.pop("max_length", 16), options.pop("pad_to_max", False))
    loader = TrainLoader(
        rows, VIEWS, captions=reader, **{"batch_size": 4, "workers": 0, "max_unreadable": 0.5, **options}
    )
    stream = iter(loader)
    return [next(stream) for _ in range(epochs * loader.steps_per_epoch)] + [loader]


def texts_by_row(batches: list[dict], tokenizer) -> dict[int, str]:
    found = {}
    for batch in batches:
        texts = tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
        found |= dict(zip(batch["index"].tolist(), (text.strip() for text in texts), strict=True))
    return found


def test_each_image_comes_with_its_own_caption(tmp_path, tokenizer):
    captions = [f"a {WORDS[i % 6]} thing" for i in range(12)]
    *batches, _ = batches_of(saved(tmp_path / "set", captions), tokenizer)
    assert texts_by_row(batches, tokenizer) == dict(enumerate(captions))
    for batch in batches:
        colors = batch["pixel_values"][:, 0, 0, 0, 0]
        assert colors.tolist() == batch["index"].tolist()


def test_of_several_captions_one_is_drawn_in_each_epoch_whoever_reads(tmp_path, tokenizer):
    captions = [[f"a {word} thing" for word in WORDS] for _ in range(8)]
    rows = saved(tmp_path / "set", captions, [Value("string")])
    *once, _ = batches_of(rows, tokenizer, epochs=6)
    *again, _ = batches_of(rows, tokenizer, epochs=6, workers=2)
    assert all((a["input_ids"] == b["input_ids"]).all() for a, b in zip(once, again, strict=True))
    halves = [texts_by_row(once[2 * epoch : 2 * epoch + 2], tokenizer) for epoch in range(6)]
    assert any(halves[0][row] != halves[1][row] for row in range(8))  # another epoch, another caption
    assert {text for half in halves for text in half.values()} == {f"a {word} thing" for word in WORDS}
    *other_seed, _ = batches_of(rows, tokenizer, epochs=1, seed=1)
    assert texts_by_row(other_seed, tokenizer) != halves[0]


def test_two_processes_read_what_one_does(tmp_path, tokenizer):
    rows = saved(tmp_path / "set", [[f"a {word} thing" for word in WORDS] for _ in range(8)], [Value("string")])
    *alone, _ = batches_of(rows, tokenizer, pad_to_max=True)
    parts = [batches_of(rows, tokenizer, pad_to_max=True, num_processes=2, process_index=i)[:-1] for i in range(2)]
    for whole, first, second in zip(alone, *parts, strict=True):
        assert whole["input_ids"].tolist() == first["input_ids"].tolist() + second["input_ids"].tolist()


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_without_a_usable_caption_are_left_out_named_and_counted(tmp_path, tokenizer, streaming):
    captions = [b"a red thing", b"", None, b"  \n ", b"\xff\xfe caf\xe9", *[b"a blue thing"] * 7]
    rows = saved(tmp_path / "set", captions, Value("binary"))
    if streaming:
        rows = load_rows(str(tmp_path / "set"), captioned=True, streaming=True)
    *batches, loader = batches_of(rows, tokenizer, epochs=2)
    assert {text for batch in batches for text in texts_by_row([batch], tokenizer).values()} == {
        "a red thing",
        "a blue thing",
    }
    assert len(loader.unreadable) == 4
    causes = " ".join(loader.unreadable.values())
    assert "empty" in causes and "no caption" in causes and "not UTF-8" in causes


def test_too_many_rows_without_captions_stop_the_run(tmp_path, tokenizer):
    rows = saved(tmp_path / "set", [None] * 6 + ["a red thing"] * 6)
    with pytest.raises(DataError, match="rows .* cannot be read.*no caption"):
        batches_of(rows, tokenizer, max_unreadable=0.1)


def test_long_captions_are_cut_off_and_counted(tmp_path, tokenizer):
    rows = saved(tmp_path / "set", ["a red thing " * 20] * 3 + ["a red thing"] * 5)
    *batches, loader = batches_of(rows, tokenizer)
    assert loader.cut_off == 3
    for batch in batches:
        assert batch["input_ids"].shape[1] <= 16
        assert (batch["input_ids"] == tokenizer.eos_token_id).any(dim=1).all()  # also of those that were cut off


def test_batches_are_as_wide_as_their_longest_or_always_full(tmp_path, tokenizer):
    rows = saved(tmp_path / "set", ["a red thing"] * 8)
    *short, _ = batches_of(rows, tokenizer)
    assert {batch["input_ids"].shape for batch in short} == {(4, 5)}
    assert all(batch["attention_mask"].all() for batch in short)
    *full, _ = batches_of(rows, tokenizer, pad_to_max=True)
    assert {batch["input_ids"].shape for batch in full} == {(4, 16)}
    assert full[0]["attention_mask"].sum(1).tolist() == [5] * 4


def test_webdataset_pairs_stream_with_text_or_a_field_of_json(tmp_path, tokenizer):
    with tarfile.open(tmp_path / "pairs.tar", "w") as archive:
        for number in range(8):
            text = f"a {WORDS[number % 6]} thing".encode() if number else b"\xff broken"
            members = {
                "png": picture(number),
                "txt": text,
                "json": json.dumps({"caption": f"a {WORDS[number % 6]} thing"}),
            }
            for ending, data in members.items():
                data = data.encode() if isinstance(data, str) else data
                info = tarfile.TarInfo(f"{number:03}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    source = {"path": "webdataset", "data_files": str(tmp_path / "pairs.tar"), "streaming": True, "captioned": True}
    *batches, loader = batches_of(load_rows(**source), tokenizer, epochs=3, batch_size=2, epoch_rows=8)
    assert list(loader.unreadable.values()) == ["the caption is not UTF-8"]
    found = {text for batch in batches for text in texts_by_row([batch], tokenizer).values()}
    assert found <= {f"a {word} thing" for word in WORDS}
    *batches, loader = batches_of(
        load_rows(**source, caption_column="json.caption"), tokenizer, batch_size=2, epoch_rows=8
    )
    assert not loader.unreadable
    for batch in batches:
        texts = tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
        colors = batch["pixel_values"][:, 0, 0, 0, 0].tolist()
        assert [text.strip() for text in texts] == [f"a {WORDS[color % 6]} thing" for color in colors]


def test_a_stream_of_captions_resumes_where_it_was(tmp_path, tokenizer):
    captions = [[f"a {word} thing" for word in WORDS] for _ in range(16)]
    saved(tmp_path / "set", captions, [Value("string")])
    rows = load_rows(str(tmp_path / "set"), captioned=True, streaming=True)

    def loader():
        return TrainLoader(rows, VIEWS, batch_size=4, workers=0, captions=CaptionReader(rows.captions, tokenizer, 16))

    first = loader()
    stream = iter(first)
    before = [next(stream) for _ in range(3)]
    state = first.state_dict()
    expected = [next(stream)["input_ids"].tolist() for _ in range(4)]
    second = loader()
    second.load_state_dict(state)
    assert [next(iter_)["input_ids"].tolist() for iter_ in [iter(second)] for _ in range(4)] == expected
    assert len(before) == 3


@pytest.mark.parametrize(
    ("column", "problem"),
    [("captoin", "did you mean 'caption'"), ("image", "holds no captions"), ("caption.short", "no column")],
)
def test_wrong_columns_are_explained(tmp_path, column, problem):
    saved(tmp_path / "set", ["a"] * 4)
    with pytest.raises(DataError, match=problem):
        load_rows(str(tmp_path / "set"), captioned=True, caption_column=column)


def test_data_without_captions_says_so():
    with pytest.raises(DataError, match=r"no column of captions.*data\.caption_column"):
        load_rows("builtin/digits", captioned=True)


def test_what_can_be_used_of_a_row():
    assert usable_captions("  a \n thing ") == ["a thing"]
    assert usable_captions(["a", None, "", b"b"]) == ["a", "b"]
    for value in (None, "", [], [None], b"\xff"):
        with pytest.raises(UnusableCaption):
            usable_captions(value)
    assert captions_of({"json": {"caption": "x"}}, ("json", "caption")) == "x"
    assert captions_of({"json": None}, ("json", "caption")) is None
    assert find_captions({"text": Value("string")}, None) == ("text",)


def test_tokenizer_writes_every_text_and_loads_by_itself(tmp_path, tokenizer):
    from transformers import AutoTokenizer

    texts = ["A Red THING", "żółw 你好 🙂", "<|endoftext|> is text too? 1234"]
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert loaded.model_max_length == 16
    ids = tokenizer(texts[:2])["input_ids"]
    assert tokenizer.decode(ids[1], skip_special_tokens=True).split() == ["żółw", "你好", "🙂"]
    assert ids[0] == [tokenizer.bos_token_id, *ids[0][1:-1], tokenizer.eos_token_id]
    assert len(ids[0]) == 5  # the words it learned from are one piece each
    assert np.max(ids[0]) == len(tokenizer) - 1 == tokenizer.eos_token_id


def test_a_tokenizer_needs_captions():
    with pytest.raises(DataError, match="no caption to train a tokenizer on"):
        train_tokenizer([], 600, 16)


def test_control_tokens_within_captions_are_text(tokenizer):
    reader = CaptionReader(("caption",), tokenizer, 40)
    (ids,) = reader.tokenize([f"a red {tokenizer.eos_token} thing {tokenizer.bos_token}"])[0]["input_ids"].tolist()
    assert (
        ids.count(tokenizer.eos_token_id) == 1 == ids.count(tokenizer.bos_token_id)
        and ids[-1] == tokenizer.eos_token_id
    )
    plain = reader.tokenize(["a red thing"])[0]["input_ids"].tolist()
    assert plain == tokenizer(["a red thing"]).input_ids  # no other text changes


def test_looking_for_control_tokens_gives_no_warning_of_long_texts(tokenizer, monkeypatch):
    told: list = []
    monkeypatch.setattr(tokenization_utils_base.logger, "warning", lambda *given, **_: told.append(given))
    tokenizer = copy.deepcopy(tokenizer)  # the warning comes once for each
    tokenizer.model_max_length = 1  # a control token's name has more as text
    control_tokens(tokenizer)
    assert not told


def test_control_tokens_that_are_pieces_of_a_vocabulary_are_text():
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((letter, -4.0) for letter in "a</s>")]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=unigram, eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=40
    )
    assert tokenizer.eos_token_id in tokenizer("a </s> a", split_special_tokens=True).input_ids
    (ids,) = CaptionReader(("caption",), tokenizer, 40).tokenize(["a </s> a"])[0]["input_ids"].tolist()
    assert tokenizer.eos_token_id not in ids
