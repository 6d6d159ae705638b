"""The lines of Python on a card give the features that were evaluated."""

import io
from importlib.resources import files

import numpy as np
import pytest
import torch
import transformers
from jinja2 import Template
from PIL import Image
from transformers import AutoModel, pipeline
from transformers.image_utils import load_image

from hfcontrast.data.bands import decode_bands
from hfcontrast.data.decode import decode_image
from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.evaluation.inputs import image_transform
from hfcontrast.methods.data2vec import Data2Vec
from hfcontrast.methods.igpt import IGPT
from hfcontrast.methods.ijepa import IJEPA
from hfcontrast.methods.mae import MAE
from hfcontrast.methods.simmim import SimMIM
from hfcontrast.publishing.export import export_encoder
from hfcontrast.publishing.processor import build_processor
from hfcontrast.publishing.usage import usage
from hfcontrast.testing import TINY_TOWERS, build

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
VIT, VIT_MAE = ({"model_type": name, "image_size": 32, **SIZES} for name in ("vit", "vit_mae"))


def pixels(*shape, top=256, dtype="uint8"):
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def written(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def image_files():
    """Files of every kind that decoders treat differently."""
    color = Image.fromarray(pixels(9, 14, 3))
    palette = color.quantize(16)
    found = {f"jpeg turned {i}": written(color, "JPEG", exif=turned(i)) for i in range(1, 9)}
    found |= {f"{kind} turned": written(color, kind, exif=turned(6)) for kind in ("PNG", "WEBP", "TIFF")}
    found |= {f"png {mode}": written(color.convert(mode), "PNG") for mode in ("1", "L", "P", "RGB")}
    found["gray with alpha"] = written(Image.fromarray(pixels(9, 14, 2), "LA"), "PNG")
    found["alpha"] = written(Image.fromarray(pixels(9, 14, 4), "RGBA"), "PNG", exif=turned(8))
    found["palette with alpha"] = written(palette, "PNG", transparency=3)
    found["color key"] = written(color, "PNG", transparency=color.getpixel((2, 2)))
    found["gif"] = written(palette, "GIF", save_all=True, append_images=[palette.rotate(180)], transparency=1)
    found["cmyk"] = written(Image.fromarray(pixels(9, 14, 4), "CMYK"), "JPEG")
    for top in (200, 4096, 65536):
        found[f"16 bits below {top}"] = written(Image.fromarray(pixels(9, 14, top=top, dtype="uint16")), "PNG")
        found[f"32 bits below {top}"] = written(Image.fromarray(pixels(9, 14, top=top, dtype="int32")), "TIFF")
    found["more than 16 bits"] = written(Image.fromarray(pixels(9, 14, top=10**6, dtype="int32")), "TIFF")
    for top in (1, 200, 70000):
        values = np.random.default_rng(1).random((9, 14), dtype="float32") * top
        values[0, 0] = np.nan
        found[f"floats to {top}"] = written(Image.fromarray(values), "TIFF")
    values[0, :2] = np.inf, -np.inf
    found["floats without bounds"] = written(Image.fromarray(values), "TIFF")
    return found


@pytest.fixture(scope="module")
def decode():
    """The function that cards show, as their readers have it."""
    text = files("hfcontrast.publishing").joinpath("card_template.md").read_text(encoding="utf-8")
    names = {}
    shown = Template(text).make_module({"window": None}).decode()
    exec(f"import numpy as np\nfrom PIL import Image, ImageOps\n{shown}", names)
    return names["decode"]


@pytest.mark.parametrize("name, data", image_files().items(), ids=image_files())
def test_cards_decode_images_as_training_and_evaluation_do(name, data, decode):
    shown, own = decode(io.BytesIO(data)), decode_image(data)
    assert shown.mode == own.mode == "RGB" and np.array_equal(np.asarray(shown), np.asarray(own))
    if not any(kind in name for kind in ("alpha", "key", "gif", "bits", "floats")):  # what the card says of pipelines
        assert np.array_equal(np.asarray(load_image(Image.open(io.BytesIO(data)))), np.asarray(own))


def of_method(method, backbone, **options):
    return lambda: build(method, {"image_size": 32, **SIZES, **backbone}, **options).export_encoder()


def of_backbone(model_type, **settings):
    return lambda: build_encoder(backbone_config({"model_type": model_type, **settings}, [32]))


RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
ENCODERS = {
    "vit": (of_backbone("vit", **SIZES), True),
    "deit": (of_backbone("deit", **SIZES), True),
    "vit in another size": (of_backbone("vit", **SIZES), None),
    "dinov2": (of_backbone("dinov2", **SIZES), True),
    "dinov2 with registers": (of_backbone("dinov2_with_registers", **SIZES), True),
    "vit_mae": (of_backbone("vit_mae", **SIZES), False),
    "vit_msn": (of_backbone("vit_msn", **SIZES), False),
    "beit": (of_backbone("beit", **SIZES), False),
    "yolos": (of_backbone("yolos", **SIZES, num_detection_tokens=2), False),
    "beit without mean": (of_backbone("beit", **SIZES, use_mean_pooling=False), True),
    "clip's tower": (of_backbone("clip_vision_model", **SIZES), True),
    "siglip's tower": (of_backbone("siglip_vision_model", **SIZES), True),
    "resnet": (of_backbone("resnet", **RESNET), True),
    "convnext": (of_backbone("convnext", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]), True),
    "mae": (of_method(MAE, VIT_MAE, pooling="class"), True),
    "mae, mean": (of_method(MAE, VIT, pooling="mean"), False),
    "simmim": (of_method(SimMIM, VIT), False),
    "data2vec": (of_method(Data2Vec, {"model_type": "data2vec-vision"}, average_top_k_layers=1), False),
    "ijepa": (of_method(IJEPA, {"model_type": "ijepa"}), False),
    "igpt": (
        lambda: build(
            IGPT, {"model_type": "imagegpt", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
        ).export_encoder(),
        False,
    ),
    "clip": (lambda: build_encoder(backbone_config(TINY_TOWERS, [32])), False),
    "siglip": (lambda: build_encoder(backbone_config({**TINY_TOWERS, "model_type": "siglip"}, [32])), True),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_published_files_give_the_evaluated_features_in_a_model_and_in_a_pipeline(name, tmp_path):
    make, pooled = ENCODERS[name]
    torch.manual_seed(0)
    encoder, size = make().eval(), {"vit in another size": 48, "igpt": 8}.get(name, 32)
    with torch.no_grad():
        for parameter in encoder.parameters():  # as after some training
            parameter.add_(0.1 * torch.randn_like(parameter))
    act = getattr(encoder.config, "pooler_act", None)
    processor = build_processor(encoder, size, 0.8, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    export_encoder(encoder, processor, tmp_path)
    assert getattr(encoder.config, "pooler_act", None) == act  # only the published files say otherwise
    lines = usage(encoder, size)
    image = Image.fromarray(pixels(40, 60, 3))
    pixel_values = image_transform(processor)([image])
    with torch.no_grad():
        expected = encode(encoder, pixel_values)
        model, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
        names = {"model": model.eval(), "pixel_values": pixel_values, "image": image}
        if lines.features.startswith("outputs"):
            names["inputs"] = processor(images=image, return_tensors="pt")
            names["outputs"] = eval(f"model(**inputs{lines.arguments})", names)
        torch.testing.assert_close(eval(lines.features, names), expected, rtol=1e-4, atol=1e-5)
    assert not report["unexpected_keys"] and not report["missing_keys"]
    if pooled is None:
        assert lines.pipeline is None and lines.arguments
        return
    if lines.image_tower:
        model = getattr(transformers, lines.image_tower).from_pretrained(tmp_path)
    names["pipe"] = pipeline("image-feature-extraction", model=model, image_processor=processor)
    torch.testing.assert_close(eval(lines.pipeline, names), expected, rtol=1e-4, atol=1e-5)
    assert lines.pooled == pooled == ("pool=True" in lines.pipeline)


@pytest.mark.parametrize("window", [None, (1000.0, 21000.0)])
def test_cards_decode_other_channels_as_training_and_evaluation_do(tmp_path, window):
    tifffile = pytest.importorskip("tifffile")
    text = files("hfcontrast.publishing").joinpath("card_template.md").read_text(encoding="utf-8")
    names = {}
    shown = Template(text).make_module({"window": window, "channels": 5}).decode()
    exec(f"import numpy as np\nimport tifffile\n{shown}", names)
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 9, 5)).astype(np.uint16)
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    for number, (values, planar) in enumerate(
        ((pixels, "contig"), (planes, "separate"), (pixels.astype(np.uint8), "contig"))
    ):
        file = tmp_path / f"{number}.tif"
        tifffile.imwrite(file, values, photometric="minisblack", planarconfig=planar)
        expected = decode_bands(file.read_bytes(), 5, 10**6, window)
        assert np.abs(names["decode"](file).astype(int) - expected).max() <= (0 if values.dtype == np.uint8 else 1)
