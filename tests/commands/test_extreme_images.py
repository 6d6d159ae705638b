"""Extreme images are read alike by training, evaluation, `embed` and the published processor beside a card's lines, or counted with a reason."""

import io
import struct
import zlib
from importlib.resources import files

import numpy as np
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from jinja2 import Template
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.embed_data import embed
from hfcontrast.data import TrainLoader, evaluation_batches, load_rows
from hfcontrast.encoders import encode
from hfcontrast.evaluation.inputs import image_transform
from hfcontrast.view import View


def colors(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int, data: bytes) -> bytes:
    """A PNG of RGB with this header, whatever its data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def readable() -> dict[str, bytes]:
    color, clear = Image.fromarray(colors(24, 16)), Image.fromarray(colors(24, 16, 4))
    clear.putalpha(0)
    palette, gray = color.quantize(16), color.convert("L")
    numbers = np.asarray(gray).astype(np.float32)
    numbers[0, :2] = np.inf, -np.inf
    sizes = ((1, 1), (2, 2), (3, 3), (50, 1), (1, 50), (50, 3), (3, 50), (400, 4), (4, 400))
    found = {f"{width} x {height}": saved(Image.fromarray(colors(width, height))) for width, height in sizes}
    found |= {f"turned {i}": saved(color, "JPEG", exif=turned(i)) for i in range(1, 9)}
    deep = np.random.default_rng(1).integers(0, 2**16, (16, 24, 3)).astype(">u2")
    return found | {
        "all transparent": saved(clear),
        "palette with a transparent color": saved(palette, transparency=3),
        "palette with transparencies": saved(palette, transparency=bytes(range(0, 256, 16))),
        "gray with alpha": saved(Image.merge("LA", (gray, gray))),
        "CMYK": saved(color.convert("CMYK"), "JPEG"),
        "1 bit": saved(color.convert("1"), "TIFF", compression="group4"),
        "16 bits of gray": saved(Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)),
        "16 bits of a color": png(24, 16, 16, b"".join(b"\0" + line.tobytes() for line in deep)),
        "floats, some infinite": saved(Image.fromarray(numbers), "TIFF"),
        "animated": saved(color, "GIF", save_all=True, append_images=[color.rotate(180)]),
        "several pages": saved(color, "TIFF", save_all=True, append_images=[color.rotate(180)]),
    }


UNREADABLE = {
    "40,000 x 1": (saved(Image.new("RGB", (40_000, 1))), "40000 x 1 pixels: more than 100 times as long as wide"),
    "1 x 40,000": (saved(Image.new("RGB", (1, 40_000))), "1 x 40000 pixels: more than 100 times as long as wide"),
    "truncated": (saved(Image.fromarray(colors(40, 40)))[:700], "cannot be decoded"),
    "nothing": (b"", "cannot be decoded: no format that Pillow knows"),
    "huge": (png(60_000, 60_000, 8, b""), "more pixels than data.max_pixels, 89,478,485"),
    "large": (png(9_500, 9_500, 8, b""), "9500 x 9500 pixels are more than data.max_pixels, 89,478,485"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A parquet file with one row for each image, those that cannot be read last."""
    path = tmp_path_factory.mktemp("extreme")
    values = [*readable().values(), *(data for data, _ in UNREADABLE.values())]
    rows = Dataset.from_dict(
        {"image": [{"bytes": data, "path": None} for data in values]}, Features({"image": ImageColumn()})
    )
    pyarrow.parquet.write_table(rows.data.table, path / "train.parquet")
    return str(path)


@pytest.fixture(scope="module")
def shown():
    """For each readable image its pixel values by the lines of a card and the processor, and its features."""
    text = files("hfcontrast.publishing").joinpath("card_template.md").read_text(encoding="utf-8")
    lines = Template(text).make_module({"window": None}).decode()
    names: dict = {}
    exec("import numpy as np\nfrom PIL import Image, ImageOps\n" + lines, names)

    def show(model_folder: str) -> tuple[torch.Tensor, torch.Tensor, list[np.ndarray]]:
        processor = AutoImageProcessor.from_pretrained(model_folder)
        images = [names["decode"](io.BytesIO(data)) for data in readable().values()]
        pixels = torch.cat([processor(image, return_tensors="pt").pixel_values for image in images])
        with torch.no_grad():
            features = encode(AutoModel.from_pretrained(model_folder, add_pooling_layer=False).eval(), pixels)
        return pixels, features, [np.asarray(image) for image in images]

    return show


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_extreme_images_are_read_alike_or_counted(folder, shown, vit_folder, tmp_path, caplog):
    pixels, features, arrays = shown(vit_folder)
    good, bad = len(pixels), len(UNREADABLE)
    rows = load_rows("parquet", data_files=f"{folder}/train.parquet")
    # training
    for cache in (True, False):
        loader = TrainLoader(rows, (View(size=8),), batch_size=good + bad, workers=0, cache=cache, max_unreadable=1.0)
        crops = next(iter(loader))["pixel_values"]
        assert len(crops) == good + bad and crops.shape[2:] == (8, 8, 3)
        told = dict(sorted(loader.unreadable.items(), key=lambda item: int(item[0][4:])))
        assert list(told) == [f"row {good + number}" for number in range(bad)]
        for cause, (_, expected) in zip(told.values(), UNREADABLE.values(), strict=True):
            assert cause.startswith(expected)
    assert all(
        np.array_equal(loader._reader.reader.pixels(data), array) for data, array in zip(readable().values(), arrays)
    )
    # evaluation
    transform = image_transform(AutoImageProcessor.from_pretrained(vit_folder))
    for streaming in (False, True):
        opened = load_rows("parquet", data_files=f"{folder}/train.parquet", streaming=streaming)
        found = torch.cat([batch for batch, *_ in evaluation_batches(opened, transform, 7)])
        assert torch.equal(found, pixels)
    assert f"{bad} images of {folder}/train.parquet (split train) left out" in caplog.text
    # embed
    source = DataSource("parquet", data_files=f"{folder}/train.parquet")
    manifest = embed(vit_folder, source, tmp_path / "out", batch_size=8)
    assert manifest["unreadable_images"] == bad
    vectors = pyarrow.parquet.read_table(tmp_path / "out" / "part-00000.parquet")["image_embedding"].to_pylist()
    assert vectors[good:] == [None] * bad
    assert torch.allclose(torch.tensor(vectors[:good]), features, atol=1e-5)
