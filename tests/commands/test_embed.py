"""`hfcontrast embed`: the right vectors in the right order, after any interruption, and uses of the files."""

import json
import multiprocessing
import os
import signal
import weakref
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value, load_dataset
from rich.console import Console
from torch.nn import functional as F
from transformers import BitImageProcessor, ViTModel

from hfcontrast.commands import cli
from hfcontrast.commands import embed_data as embed
from hfcontrast.commands import embedding_files as parts
from hfcontrast.commands.arguments import DataSource, data_files
from hfcontrast.errors import DataError, HFContrastError, OutputError
from hfcontrast.lock import hold
from tests.data.conftest import png
from tests.evaluation.conftest import COLORS, colored, save, tiny_clip, tiny_processor, tiny_siglip

pytest_plugins = ["tests.evaluation.conftest"]


@pytest.fixture
def source(colors_folder) -> DataSource:
    return DataSource(colors_folder)


def read(folder: Path) -> Dataset:
    return load_dataset("parquet", data_files=f"{folder}/*.parquet", split="train", cache_dir=str(folder / "cache"))


def expected_images(model, data: Dataset) -> dict[int, torch.Tensor]:
    """The features of every readable image with nothing but transformers, one at a time."""
    found = {}
    for number in range(len(data)):
        if data.cast_column("image", Image(decode=False))[number]["image"]["bytes"] == b"broken":
            continue
        pixels = tiny_processor().image_processor(data[number]["image"], return_tensors="pt").pixel_values
        with torch.no_grad():
            features = model.get_image_features(pixel_values=pixels)
        found[number] = getattr(features, "pooler_output", features)[0]
    return found


def expected_text(model, text: str) -> torch.Tensor:
    with torch.no_grad():
        features = model.get_text_features(**tiny_processor().tokenizer(text, return_tensors="pt"))
    return getattr(features, "pooler_output", features)[0]


def test_images_and_captions_in_the_order_of_the_rows(clip_folder, source, tmp_path):
    told = embed.embed(clip_folder, source, tmp_path, batch_size=7, shard_rows=16, keep=["number"])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "manifest.json",
        *(f"part-0000{number}.parquet" for number in range(3)),
    ]
    sizes = [pyarrow.parquet.read_metadata(file).num_rows for file in sorted(tmp_path.glob("*.parquet"))]
    assert sizes == [16, 16, 8]
    assert (told["rows"], told["unreadable_images"], told["unusable_captions"]) == (40, 2, 0)
    assert told["parts"][0]["examples"] == ["row 3: cannot be decoded: no format that Pillow knows"]
    data, found = colored(40, broken=(3, 17)), read(tmp_path)
    assert found["index"][:] == list(range(40)) and found["label"][:] == data["label"][:]
    assert found["number"][:] == data["number"][:]
    assert found.features["label"] == ClassLabel(names=list(COLORS)) and found.features["number"] == Value("int32")
    images, captions = expected_images(tiny_clip(), data), data["caption"][:]
    for number, row in enumerate(found):
        assert (row["image_embedding"] is None) == (number in (3, 17))
        if number in images:
            torch.testing.assert_close(torch.tensor(row["image_embedding"]), images[number], atol=1e-5, rtol=0)
        text = expected_text(tiny_clip(), captions[number])
        torch.testing.assert_close(torch.tensor(row["text_embedding"]), text, atol=1e-5, rtol=0)


def test_a_row_with_several_captions_has_a_list_of_vectors(clip_folder, tmp_path):
    data = colored(5)
    captions = [["a red square", "", "blue"], [], None, ["big"], [None]]
    data.remove_columns(["captions", "caption"]).add_column("captions", captions).to_parquet(tmp_path / "data.parquet")
    source = DataSource("parquet", data_files=str(tmp_path / "data.parquet"))
    told = embed.embed(clip_folder, source, tmp_path / "out", what="texts", normalize=True)
    assert told["unusable_captions"] == 4 and told["options"]["what"] == "texts"
    found = read(tmp_path / "out")
    assert found.features["text_embedding"] == List(List(Value("float32"), length=24))
    assert "image_embedding" not in found.features
    several = found["text_embedding"][:]
    assert [[vector is not None for vector in vectors] for vectors in several] == [
        [True, False, True],
        [],
        [],
        [True],
        [False],
    ]
    for vector, text in ((several[0][0], "a red square"), (several[0][2], "blue"), (several[3][0], "big")):
        expected = F.normalize(expected_text(tiny_clip(), text), dim=0)
        torch.testing.assert_close(torch.tensor(vector), expected, atol=1e-5, rtol=0)


def test_missing_captions_are_null(clip_folder, tmp_path):
    data = colored(4).remove_columns(["captions", "caption"])
    data.add_column("text", ["red", None, " ", "blue"]).to_parquet(tmp_path / "data.parquet")
    source = DataSource("parquet", data_files=str(tmp_path / "data.parquet"))
    told = embed.embed(clip_folder, source, tmp_path / "out")
    found = read(tmp_path / "out")["text_embedding"][:]
    assert [vector is None for vector in found] == [False, True, True, False] and told["unusable_captions"] == 2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_column_is_one_that_a_faiss_index_takes(dtype, clip_folder, tmp_path):
    colored(20).to_parquet(tmp_path / "data.parquet")
    source = DataSource("parquet", data_files=str(tmp_path / "data.parquet"))
    embed.embed(clip_folder, source, tmp_path / "out", what="images", normalize=True, dtype=dtype, shard_rows=8)
    found = read(tmp_path / "out")
    assert found.features["image_embedding"] == List(Value(dtype), length=24)
    with found.formatted_as("numpy", columns=["image_embedding"], dtype=np.float32):  # as add_faiss_index does
        vectors = found[3:9]["image_embedding"]
    assert vectors.dtype == np.float32 and vectors.shape == (6, 24) and vectors.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3 if dtype == "float16" else 1e-6)


class Stop(Exception):
    pass


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_interrupted_run_resumes(written, streaming, clip_folder, colors_folder, tmp_path, monkeypatch):
    source = DataSource(colors_folder, streaming=streaming)
    options = {"batch_size": 4, "shard_rows": 10, "keep": ["number"], "console": Console(quiet=True)}
    whole = embed.embed(clip_folder, source, tmp_path / "whole", **options)
    calls = []

    def stop_after(table, path, write=embed.write_part):
        if len(calls) == written:
            path.with_name(f".unfinished_{path.name}_0").write_bytes(b"half a file")
            raise Stop
        calls.append(path.name)
        write(table, path)

    with monkeypatch.context() as patch:
        patch.setattr(embed, "write_part", stop_after)
        with pytest.raises(Stop):
            embed.embed(clip_folder, source, tmp_path / "halves", **options)
    assert len(list((tmp_path / "halves").glob("*.parquet"))) == written
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "halves").glob("*.parquet")}
    again = embed.embed(clip_folder, source, tmp_path / "halves", **options)
    assert again["parts"] == whole["parts"] and again["complete"] and again["rows"] == 40
    files = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert sorted(file.name for file in (tmp_path / "halves").iterdir()) == files and len(files) == 5
    for name in files[1:]:
        one, other = (pyarrow.parquet.read_table(tmp_path / folder / name) for folder in ("whole", "halves"))
        assert one.equals(other, check_metadata=True)
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "halves").glob("*.parquet")}
    assert after.items() >= before.items()  # what was there has not been made again


def test_a_killed_process_leaves_a_folder_that_can_be_resumed(clip_folder, colors_folder, tmp_path):
    options = {"shard_rows": 15, "batch_size": 4}

    def run_until_killed():
        def kill(manifest, folder, write=embed.write_manifest):
            if len(manifest["parts"]) == 2:
                os.kill(os.getpid(), signal.SIGKILL)  # the second file is there, but not entered
            write(manifest, folder)

        torch.set_num_threads(1)
        embed.write_manifest = kill
        embed.embed(clip_folder, DataSource(colors_folder), tmp_path / "halves", **options)

    process = multiprocessing.get_context("fork").Process(target=run_until_killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(json.loads((tmp_path / "halves" / "manifest.json").read_text())["parts"]) == 1
    for name in ("whole", "halves"):
        embed.embed(clip_folder, DataSource(colors_folder), tmp_path / name, **options)
    for number in range(3):
        files = (tmp_path / name / f"part-0000{number}.parquet" for name in ("whole", "halves"))
        one, other = map(pyarrow.parquet.read_table, files)
        assert one.equals(other)


@pytest.mark.parametrize("rows", [20, 23])
def test_a_finished_run_does_nothing_and_a_damaged_one_is_mended(rows, clip_folder, tmp_path, monkeypatch):
    colored(rows).to_parquet(tmp_path / "data.parquet")
    source = DataSource("parquet", data_files=str(tmp_path / "data.parquet"))
    first = embed.embed(clip_folder, source, tmp_path / "out", shard_rows=10)
    assert [part["rows"] for part in first["parts"]] == [10, 10, 3][: 2 + rows % 2]
    with monkeypatch.context() as patch:
        patch.setattr(embed, "write_part", None)
        assert embed.embed(clip_folder, source, tmp_path / "out", shard_rows=10, batch_size=3) == first
    content = pyarrow.parquet.read_table(tmp_path / "out" / "part-00001.parquet")
    (tmp_path / "out" / "part-00001.parquet").write_bytes(b"damaged")
    assert embed.embed(clip_folder, source, tmp_path / "out", shard_rows=10) == first
    assert pyarrow.parquet.read_table(tmp_path / "out" / "part-00001.parquet").equals(content)


def test_other_options_are_refused_and_named(clip_folder, source, tmp_path):
    embed.embed(clip_folder, source, tmp_path / "out", shard_rows=16)
    with pytest.raises(HFContrastError, match="other options: normalize was False, is True; shard_rows was 16, is 8"):
        embed.embed(clip_folder, source, tmp_path / "out", shard_rows=8, normalize=True)
    with pytest.raises(HFContrastError, match="other options: what was 'both', is 'images'. Choose"):  # the same model
        embed.embed(clip_folder, source, tmp_path / "out", shard_rows=16, what="images")
    with pytest.raises(
        HFContrastError, match="data.split was 'train', is 'test'; data.rows was 40, is 22; data.fingerprint was"
    ):
        embed.embed(clip_folder, source, tmp_path / "out", shard_rows=16, split="test")
    other = save(tiny_clip(seed=5), tmp_path / "clip")
    embed.embed(other, source, tmp_path / "mine", shard_rows=16)
    save(tiny_clip(seed=6), tmp_path / "clip")  # trained on, and saved in the same place
    with pytest.raises(HFContrastError, match="other options: model_digest was"):
        embed.embed(other, source, tmp_path / "mine", shard_rows=16)
    (tmp_path / "mine" / "manifest.json").unlink()
    with pytest.raises(HFContrastError, match="holds part-00000.parquet but no manifest.json"):
        embed.embed(other, source, tmp_path / "mine", shard_rows=16)
    (tmp_path / "mine" / "manifest.json").write_text("{")
    with pytest.raises(HFContrastError, match="cannot resume in"):
        embed.embed(other, source, tmp_path / "mine", shard_rows=16)


def test_data_that_changed_is_refused_and_older_manifests_are_resumed(tmp_path):
    before = {"data.rows": 36, "what": "images"}
    options = before | {"data.fingerprint": "one", "data.open_addresses": False, "data.max_pixels": 89_478_485}
    (tmp_path / "out").mkdir()
    (tmp_path / "older").mkdir()
    embed.continue_manifest(tmp_path / "out", options)
    for changed, count in (({"data.fingerprint": "two"}, 36), ({"data.fingerprint": "two", "data.rows": 37}, 37)):
        with pytest.raises(HFContrastError, match=f"the data has changed since .*36 rows then, {count} now"):
            embed.continue_manifest(tmp_path / "out", options | changed)
    embed.write_manifest({"options": before, "parts": [], "complete": False}, tmp_path / "older")
    embed.continue_manifest(tmp_path / "older", options)
    with pytest.raises(HFContrastError, match="data.open_addresses was False, is True"):
        embed.continue_manifest(tmp_path / "older", options | {"data.open_addresses": True})


def test_fingerprints_of_an_earlier_version_are_not_compared_and_it_is_reported(tmp_path, caplog):
    before = {"data.rows": 36, "data.fingerprint": "0" * 32, "model_digest": "f" * 32}
    now = before | {"data.fingerprint": "blake2b:1", "model_digest": "blake2b:2"}
    now |= {"data.open_addresses": False, "data.max_pixels": 89_478_485, "data.image_key": None, "data.window": None}
    embed.write_manifest({"options": before, "parts": [], "complete": False}, tmp_path)
    assert embed.continue_manifest(tmp_path, now)["options"] == now
    assert "data.fingerprint and model_digest of" in caplog.text and "an earlier version wrote it" in caplog.text
    with pytest.raises(HFContrastError, match="data.rows was 36, is 37"):
        embed.continue_manifest(tmp_path, now | {"data.rows": 37})


def test_an_encoder_without_texts(vit_folder, source, tmp_path):
    told = embed.embed(vit_folder, source, tmp_path, split="test", keep=["caption"])
    assert told["options"]["what"] == "images"
    found = read(tmp_path)
    assert set(found.column_names) == {"index", "image_embedding", "label", "caption"}
    model = ViTModel.from_pretrained(vit_folder, add_pooling_layer=False).eval()
    processor = BitImageProcessor.from_pretrained(vit_folder)
    with torch.no_grad():
        pixels = processor(colored(22, seed=4)[7]["image"], return_tensors="pt").pixel_values
        expected = model(pixels).last_hidden_state[0, 0]  # and not the random pooler that AutoModel adds
    torch.testing.assert_close(torch.tensor(found[7]["image_embedding"]), expected, atol=1e-5, rtol=0)


def test_siglip_texts_are_padded_to_the_full_length(source, tmp_path):
    folder = save(tiny_siglip(), tmp_path / "siglip")
    embed.embed(folder, source, tmp_path / "out", split="test", what="texts")
    tokens = tiny_processor().tokenizer(
        colored(1)[0]["caption"], padding="max_length", max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        expected = tiny_siglip().get_text_features(**tokens)
    expected = getattr(expected, "pooler_output", expected)[0]
    torch.testing.assert_close(torch.tensor(read(tmp_path / "out")[0]["text_embedding"]), expected, atol=1e-5, rtol=0)


def test_kept_images_are_images_again(clip_folder, tmp_path):
    features = Features({"photo": Image(), "mask": Image(), "box": List(Value("float32"), length=4)})
    picture = png(np.full((20, 20, 3), 90, np.uint8))
    rows = {"photo": [{"bytes": picture, "path": None}] * 3, "mask": [{"bytes": picture, "path": None}, None, None]}
    Dataset.from_dict({**rows, "box": [[1, 2, 3, 4]] * 3}, features=features).to_parquet(tmp_path / "data.parquet")
    source = DataSource("parquet", data_files=str(tmp_path / "data.parquet"), image_column="photo")
    with pytest.raises(DataError, match="'photo' is the image or the label column"):
        embed.embed(clip_folder, source, tmp_path / "out", keep=["photo"])
    embed.embed(clip_folder, source, tmp_path / "out", keep=["mask", "box", "image"])
    found = read(tmp_path / "out")
    assert found.features["mask"] == Image() and found.features["box"] == List(Value("float32"), length=4)
    assert (
        found[0]["image"].size == found[0]["mask"].size == (20, 20)
        and found[1]["mask"] is None
        and found[2]["box"] == [1, 2, 3, 4]
    )


def test_what_cannot_be_done_is_reported(clip_folder, vit_folder, source, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(HFContrastError, match="vit has no text tower: --what both needs one"):
        embed.embed(vit_folder, source, output, what="both")
    with pytest.raises(DataError, match="no column 'sentence'"):
        embed.embed(clip_folder, DataSource(source.path, caption_column="sentence"), output)
    with pytest.raises(DataError, match="no column 'color'.*; its columns are"):
        embed.embed(clip_folder, source, output, keep=["color"])
    with pytest.raises(DataError, match="'index' cannot be kept"):
        embed.embed(clip_folder, source, output, keep=["index"])
    with pytest.raises(HFContrastError, match="nowhere cannot be loaded as a model"):
        embed.embed(str(tmp_path / "nowhere"), source, output)
    with pytest.raises(HFContrastError, match="device 'cuda:77' cannot be used"):
        embed.embed(clip_folder, source, output, device="cuda:77")
    tiny_clip().save_pretrained(tmp_path / "bare")
    with pytest.raises(HFContrastError, match="bare has no image processor"):
        embed.embed(str(tmp_path / "bare"), source, output)
    assert not output.exists()


def test_data_files_name_splits_or_not():
    assert data_files(None) is None and data_files(["a/*.parquet"]) == "a/*.parquet"
    assert data_files(["a", "b"]) == ["a", "b"] and data_files(["x/year=2020/*"]) == "x/year=2020/*"
    assert data_files(["train=a", "test=b=1", "train=c"]) == {"train": ["a", "c"], "test": ["b=1"]}
    with pytest.raises(HFContrastError, match="--data-files b names no split"):
        data_files(["train=a", "b"])


def test_the_command(clip_folder, colors_folder, tmp_path, capsys):
    arguments = ["parquet", "--data-files", f"train={colors_folder}/test-*.parquet", "--output", str(tmp_path / "out")]
    arguments += ["--shard-rows", "15", "--normalize", "--keep", "number", "caption", "--batch-size", "8"]
    assert cli.main(["embed", clip_folder, *arguments]) == 0
    out = capsys.readouterr().out
    assert "part-00000.parquet: 15 rows, 1 unreadable image (null)" in out and "22 rows in 2 files" in out
    assert f'load_dataset("parquet", data_files="{tmp_path}/out/*.parquet", split="train")' in out
    assert set(read(tmp_path / "out").column_names) == {
        *("index", "image_embedding", "text_embedding", "label", "number", "caption")
    }
    assert cli.main(["embed", clip_folder, *arguments]) == 0  # again
    assert cli.main(["embed", clip_folder, *arguments, "--dtype", "float16"]) == 2
    assert "dtype was 'float32', is 'float16'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["embed", clip_folder, colors_folder, "--output", "x", "--shard-rows", "0"])


def test_images_are_not_accumulated(clip_folder, source, monkeypatch):
    rows, what = embed.open_rows(opened := embed.open_model(clip_folder, device="cpu"), source, "train", None, ())
    maker = embed.PartMaker(opened, rows, what, False, "float32", 4)
    alive = []

    def encode(model, pixels, of=parts.encode):
        alive.append(weakref.ref(pixels))
        assert sum(one() is not None for one in alive) <= 2  # these, and those that are prepared meanwhile
        return of(model, pixels)

    monkeypatch.setattr(parts, "encode", encode)
    grad = torch.is_grad_enabled()
    assert [len(table) for table, _ in maker.parts(0, 40)] == [40] and len(alive) == 10
    assert torch.is_grad_enabled() == grad


def test_a_folder_is_embedded_into_once_at_a_time(clip_folder, source, tmp_path):
    with multiprocessing.get_context("fork").Pool(1) as other:
        other.apply(hold, (tmp_path, "--output"))
        with pytest.raises(OutputError, match="is in use by another run .process .*choose another --output"):
            embed.embed(clip_folder, source, tmp_path)
    assert embed.embed(clip_folder, source, tmp_path)["complete"]
    assert not list(tmp_path.glob(".*"))


def test_embeddings_that_are_not_finite_are_null_and_counted(clip_folder, source, tmp_path, monkeypatch):
    whole, whole_texts, seen = parts.encode, parts.text_embeddings, []

    def encode(model, pixels):
        seen.append(len(pixels))
        found = whole(model, pixels).clone()
        if len(seen) == 2:  # rows 20 to 39
            found[4, 0], found[5, 1] = float("nan"), float("inf")
        return found

    def text_embeddings(*arguments):
        found = whole_texts(*arguments)
        return torch.cat([found[:1] * float("nan"), found[1:]]) if len(seen) == 1 else found

    monkeypatch.setattr(parts, "encode", encode)
    monkeypatch.setattr(parts, "text_embeddings", text_embeddings)
    told = embed.embed(clip_folder, source, tmp_path, batch_size=20, shard_rows=20)
    assert seen == [18, 20] and told["unreadable_images"] == 2 and told["unusable_captions"] == 0
    assert (told["nonfinite_images"], told["nonfinite_captions"]) == (2, 1)
    assert [part["nonfinite_images"] for part in told["parts"]] == [0, 2]
    assert "row 24" in told["parts"][1]["examples"][0] and "not finite" in embed.failures(told["parts"][1])
    found = read(tmp_path)
    assert [row for row in range(40) if found["image_embedding"][row] is None] == [3, 17, 24, 25]
    assert [row for row in range(40) if found["text_embedding"][row] is None] == [0]


def test_numbers_beyond_float16_are_refused_with_their_row(clip_folder, source, tmp_path, monkeypatch):
    whole = parts.encode

    def encode(model, pixels):
        found = whole(model, pixels)
        return torch.cat([found[:-1], 1e6 * found[-1:]])

    monkeypatch.setattr(parts, "encode", encode)
    options = {"what": "images", "dtype": "float16", "batch_size": 40}
    with pytest.raises(HFContrastError, match="row 39: .* 65,504: use --normalize or --dtype float32"):
        embed.embed(clip_folder, source, tmp_path / "refused", **options)
    told = embed.embed(clip_folder, source, tmp_path / "done", normalize=True, **options)
    assert told["nonfinite_images"] == 0 and told["rows"] == 40


def test_weights_that_are_not_finite_are_refused_before_the_data_is_read(tmp_path):
    model = tiny_clip()
    model.visual_projection.weight.data[0, 0] = float("nan")
    folder = save(model, tmp_path / "model")
    with pytest.raises(
        HFContrastError, match="cannot be used: visual_projection.weight of .* tensors has numbers that are NaN"
    ):
        embed.embed(folder, DataSource("nowhere"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_beyond_signed_integers_are_kept(vit_folder, tmp_path):
    labels = [2**63, 2**64 - 1, None, 3]
    images = [{"bytes": png(np.full((8, 8, 3), 9, np.uint8)), "path": None}] * 4
    table = pyarrow.table({"image": images, "label": pyarrow.array(labels, pyarrow.uint64())})
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    for streaming in (False, True):
        output = tmp_path / str(streaming)
        embed.embed(
            vit_folder, DataSource("parquet", data_files=str(tmp_path / "data.parquet"), streaming=streaming), output
        )
        assert pyarrow.parquet.read_table(output / "part-00000.parquet")["label"].to_pylist() == labels


def test_data_of_which_no_row_can_be_embedded_is_an_error(vit_folder, tmp_path, capsys):
    (tmp_path / "data.jsonl").write_text('{"image": "gone.png"}\n' * 3)
    arguments = ["embed", vit_folder, str(tmp_path / "data.jsonl"), "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert "3 unreadable images" in told.out and "not one of 3 rows could be embedded" in told.err
