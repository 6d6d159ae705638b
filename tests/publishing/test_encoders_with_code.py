"""Encoders with code of hfcontrast include that code: they load, and give the same features, without hfcontrast."""

import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from hfcontrast.encoders import ColorViewsConfig, ColorViewsModel, SignalEncoderConfig, SignalEncoderModel, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.evaluation.inputs import image_transform
from hfcontrast.publishing.export import export_encoder
from hfcontrast.publishing.processor import build_processor

BACKBONES = {
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 12],
        "depths": [1, 1],
        "layer_type": "basic",
    },
    "vit": {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8},
    "small_resnet": {"model_type": "small_resnet"},
    "timm": "timm/resnet18",
}
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)

ELSEWHERE = """
import sys
sys.modules["hfcontrast"] = None  # any import of it fails
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline
torch.set_num_threads(1)
root = sys.argv[1]
image, found = Image.open(f"{root}/image.png"), {}
for name in sys.argv[2:]:
    model, info = AutoModel.from_pretrained(f"{root}/{name}", trust_remote_code=True, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    if name == "signal":
        inputs = torch.load(f"{root}/signal.pt")
    else:
        inputs = AutoImageProcessor.from_pretrained(f"{root}/{name}")(image, return_tensors="pt").pixel_values
    with torch.no_grad():
        found[name] = type(model).__name__, inputs, model.eval()(inputs).pooler_output
extract = pipeline("image-feature-extraction", model=f"{root}/vit", trust_remote_code=True, framework="pt")
found["pipeline"] = torch.tensor(extract(image))
assert not [name for name in sys.modules if name.startswith("hfcontrast.")]
torch.save(found, f"{root}/found.pt")
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What was exported, by name: (inputs, features) here, and what a process without hfcontrast made of it."""
    root = tmp_path_factory.mktemp("published")
    image = Image.fromarray(torch.randint(0, 256, (9, 12, 3), dtype=torch.uint8).numpy()).resize((60, 45))
    image.save(root / "image.png")
    expected = {}
    for name, backbone in BACKBONES.items():
        colors = {"image_mean": list(MEAN), "image_std": list(STD)}
        encoder = ColorViewsModel(ColorViewsConfig(backbone_config=backbone_config(backbone, [32]), **colors)).eval()
        processor = build_processor(encoder, 32, 0.8, MEAN, STD)
        export_encoder(encoder, processor, root / name)
        pixels = image_transform(processor)([image])
        expected[name] = pixels, encode(encoder, pixels).detach()
    signals = torch.randn(2, 1, 800)
    torch.save(signals, root / "signal.pt")
    encoder = SignalEncoderModel(SignalEncoderConfig(conv_dim=[8] * 5, hidden_size=6)).eval()
    encoder.save_pretrained(root / "signal")
    expected["signal"] = signals, encode(encoder, signals).detach()
    environment = {**os.environ, "HF_MODULES_CACHE": str(root / "modules"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(root), *expected],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return expected, torch.load(root / "found.pt")


@pytest.mark.parametrize("name", [*BACKBONES, "signal"])
def test_it_loads_without_hfcontrast(loaded, name):
    expected, found = loaded
    kind, inputs, features = found[name]
    assert kind == ("SignalEncoderModel" if name == "signal" else "ColorViewsModel")
    torch.testing.assert_close(inputs, expected[name][0])
    torch.testing.assert_close(features, expected[name][1], rtol=1e-4, atol=1e-5)


def test_a_pipeline_extracts_features(loaded):
    assert loaded[1]["pipeline"].shape == (1, 17, 32)
