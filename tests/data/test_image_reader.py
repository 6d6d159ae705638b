"""What rows may open, how large their images may be, and at what size they are decoded."""

import base64
import io
import os
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as PILImage

from hfcontrast.data import ImageReader, TrainLoader, UnreadableImage, evaluation_batches, load_rows
from hfcontrast.data.image_reader import detail_of, largest_of
from hfcontrast.data.row_reader import row_name
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images, rows_of

VIEWS = (View(size=8),)


def encoded(width: int, height: int, kind: str = "JPEG", **options) -> bytes:
    small = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(small).resize((width, height), PILImage.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def server():
    """An address of this machine, and what was asked of it."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encoded_images(1)[0])

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "image feature"])
def test_addresses_in_rows_are_not_opened(tmp_path, server, kind, streaming):
    address, asked = server
    (tmp_path / "a.png").write_bytes(encoded_images(1)[0])
    paths = [f"{address}/1.png", (tmp_path / "a.png").as_uri(), f"zip://a::{address}/2.zip", str(tmp_path / "a.png")]
    rows = Dataset.from_dict({"image": paths})
    if kind == "csv":
        rows.to_csv(tmp_path / "t.csv")
    elif kind == "json":
        rows.to_json(tmp_path / "t.json")
    else:
        rows = rows.cast_column("image", Image()) if kind == "image feature" else rows
        pyarrow.parquet.write_table(rows.data.table, tmp_path / "t.parquet")  # to_parquet would open what it can
    file = next(tmp_path.glob("t.*"))
    source = {"path": file.suffix[1:], "data_files": str(file), "streaming": streaming}
    options = {"batch_size": 2, "workers": 0, "epoch_rows": 4}
    loader = TrainLoader(load_rows(**source), VIEWS, max_unreadable=0.9, **options)
    for _ in zip(range(4), loader):
        pass
    assert len(loader.unreadable) == 3 and not asked
    assert all("data.open_addresses" in cause for cause in loader.unreadable.values())
    with pytest.raises(DataError, match="3 of 4 rows .* cannot be read"):
        for _ in zip(range(4), TrainLoader(load_rows(**source), VIEWS, **options)):
            pass
    batches = list(evaluation_batches(load_rows(**source), lambda images: torch.zeros(len(images)), 4))
    assert [kept for *_, kept in batches] == [1] and not asked
    opened = load_rows(**source, open_addresses=True)
    assert [kept for *_, kept in evaluation_batches(opened, lambda images: torch.zeros(len(images)), 4)] == [3]
    assert asked


def test_what_belongs_to_a_data_set_is_opened(tmp_path):
    data = encoded_images(1)[0]
    for name in ("own/a.png", "other/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    own = {"bytes": None, "path": str(tmp_path / "own" / "a.png")}
    other = {"bytes": None, "path": str(tmp_path / "own" / ".." / "other" / "b.png")}
    elsewhere = ImageReader(local=False, places=(f"{tmp_path}/own/", "hf://datasets/someone/set@"))
    assert elsewhere.read(own) == ImageReader().read(own) == ImageReader().read(other) == data
    for path in (
        other["path"],
        "hf://datasets/someone/other@1/a.png",
        "hf://datasets/someone/set@1/../../x",
        "/etc/passwd",
    ):
        with pytest.raises(UnreadableImage, match="not part of the data set"):
            elsewhere.read({"bytes": None, "path": path})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        ImageReader().read({"bytes": None, "path": str(tmp_path / "pipe")})


def test_large_images_count_as_unreadable():
    line, large = encoded(4000, 1, "PNG"), encoded(400, 300, "PNG")
    rows = replace(rows_of([*encoded_images(30), line, large]), reader=ImageReader(max_pixels=100_000))
    for cache in (False, True):
        loader = TrainLoader(rows, VIEWS, batch_size=8, workers=0, cache=cache, max_unreadable=0.1)
        for _ in zip(range(4), loader):
            pass
        causes = sorted(loader.unreadable.values())
        assert causes[0].startswith("400 x 300 pixels are more than data.max_pixels, 100,000")
        assert causes[1] == "4000 x 1 pixels: more than 100 times as long as wide"
    assert sum(kept for *_, kept in evaluation_batches(rows, lambda images: torch.zeros(len(images)), 8)) == 30
    assert ImageReader(max_pixels=10**9).image(large).size == (400, 300)


def test_a_jpeg_is_decoded_at_a_size_that_its_crops_allow():
    views = (View(name="large", size=32, scale=(0.25, 1.0)), View(name="small", key="s", size=16, scale=(0.1, 0.4)))
    reader = ImageReader(detail=detail_of(views))
    assert reader.pixels(encoded(96, 128)).shape == (128, 96, 3)  # as it is: its smallest crop is 48 pixels high
    large = encoded(1200, 900, quality=95)
    assert reader.pixels(large).shape[:2] == (225, 300) and reader.size(large) == 300 * 225
    assert reader.pixels(encoded(1200, 900, "PNG")).shape == (900, 1200, 3)  # which has no smaller size
    whole = PILImage.fromarray(ImageReader().pixels(large)).resize((75, 56), PILImage.Resampling.BOX)
    drafted = PILImage.fromarray(reader.pixels(large)).resize((75, 56), PILImage.Resampling.BOX)
    assert np.abs(np.asarray(whole, dtype=int) - np.asarray(drafted, dtype=int)).mean() < 1.5
    rotated = PILImage.open(io.BytesIO(large))
    rotated.getexif()[0x0112] = 6
    buffer = io.BytesIO()
    rotated.save(buffer, "JPEG", exif=rotated.getexif())
    assert reader.pixels(buffer.getvalue()).shape[:2] == (300, 225)


def test_crops_of_a_smaller_decoded_image_are_those_of_the_whole():
    view = (View(size=32, scale=(0.3, 1.0), jitter=0.0),)
    crops = []
    for image in (encoded(1200, 900, quality=95), encoded(1200, 900, "PNG")):
        rows = rows_of([image] * 4)
        crops.append(next(iter(TrainLoader(rows, view, batch_size=4, workers=0, cache=False)))["pixel_values"])
    assert (crops[0].int() - crops[1].int()).abs().float().mean() < 4


def test_an_evaluation_keeps_few_decoded_images(monkeypatch):
    monkeypatch.setattr("hfcontrast.data.in_parts.PIXELS_AT_ONCE", 5_000)
    seen = []

    def transform(images):
        seen.append(sum(image.width * image.height for image in images))
        return torch.tensor([np.asarray(image).mean() for image in images])

    rows = rows_of(encoded_images(20))
    (few,) = list(evaluation_batches(rows, transform, 20))
    assert max(seen) < 5_000 + 50 * 50
    monkeypatch.undo()
    (all_at_once,) = list(evaluation_batches(rows, transform, 20))
    assert torch.equal(few[0], all_at_once[0]) and torch.equal(few[1], all_at_once[1])


def test_texts_in_the_place_of_images_are_named_and_cut_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = base64.b64encode(encoded(200, 200)).decode()
    for text in (packed, f"data:image/jpeg;base64,{packed}", base64.urlsafe_b64encode(bytes(range(200))).decode()):
        with pytest.raises(UnreadableImage, match="looks like base64, and no image: decode it to bytes"):
            ImageReader().read({"bytes": None, "path": text})
    for text in ("x. " * 9000, "s3://" + "x. " * 9000):
        for reader in (ImageReader(), ImageReader(local=False)):
            with pytest.raises(UnreadableImage) as error:
                reader.read({"bytes": None, "path": text})
            assert len(str(error.value)) < 500
    assert len(row_name(3, {"path": packed})) < 100
    with pytest.raises(UnreadableImage, match=f"a.png', which is relative to the working directory, {tmp_path}"):
        ImageReader().read({"bytes": None, "path": "a.png"})


def test_images_are_kept_as_large_as_their_views_need():
    views = (View(size=16, scale=(0.25, 1.0), ratio=(1.0, 1.0)),)
    assert largest_of(views) == 48  # crops of a quarter are 24 px a side, one and a half times the view
    reader = ImageReader(largest=48)
    small, wide = encoded(48, 40, "PNG"), encoded(384, 96, "PNG")
    assert np.array_equal(reader.pixels(small), ImageReader().pixels(small))
    assert reader.pixels(wide).shape == (24, 96, 3) and reader.size(wide) == 48**2
    assert reader.image(wide).size == (384, 96)  # evaluations see the whole


def test_views_of_smaller_images_look_the_same():
    """Crops of an image at its own size, and of one as small as the rule allows."""
    waves = np.indices((300, 400)).sum(0)[..., None] / np.array([230.0, 310.0, 430.0])
    pixels = (127 + 120 * np.sin(waves)).astype(np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG")
    view = (View(size=16, scale=(0.3, 1.0), jitter=0.0),)
    found = []
    for size in (None, "auto"):
        loader = TrainLoader(rows_of([buffer.getvalue()] * 8), view, batch_size=8, workers=0, cache_size=size)
        assert loader.largest == (None if size is None else largest_of(view))
        found.append(next(iter(loader))["pixel_values"].float())
        assert ("data.cache_size" in loader.about_cache) == (size == "auto")
    assert 0 < (found[0] - found[1]).abs().mean() < 3
