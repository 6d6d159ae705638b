"""What is published loads with plain transformers and timm, without hfcontrast, and gives the same features."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from hfcontrast import atomic
from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.evaluation.inputs import image_transform
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.publishing.export import export_encoder, save_method
from hfcontrast.publishing.processor import build_processor, timm_settings
from hfcontrast.testing import TINY_BACKBONE, build

COLORS = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
BACKBONES = {
    "vit": {"model_type": "vit", **TINY},
    "dinov2": {"model_type": "dinov2", **TINY},
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 12],
        "depths": [1, 1],
        "layer_type": "basic",
    },
    "convnext": {"model_type": "convnext", "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    "small_resnet": {"model_type": "small_resnet"},
    "timm_vit": "timm/vit_tiny_patch16_224",
    "timm_resnet": "timm/resnet18",
}
CLASSES = {
    "vit": "ViTModel",
    "dinov2": "Dinov2Model",
    "resnet": "ResNetModel",
    "convnext": "ConvNextModel",
    "small_resnet": "SmallResNetModel",
    "timm_vit": "TimmWrapperModel",
    "timm_resnet": "TimmWrapperModel",
}

# What a user has: transformers and timm, the exported folder and an image.
ELSEWHERE = """
import json, sys
sys.modules["hfcontrast"] = None  # any import of it fails
import timm, torch
from PIL import Image
from transformers import AutoModel
from transformers import AutoImageProcessor, AutoModel, pipeline
torch.set_num_threads(1)
root = sys.argv[1]
image = Image.open(f"{root}/image.png")
found = {}
for name in sys.argv[2:]:
    folder, trust = f"{root}/{name}", name == "small_resnet"
    processor = AutoImageProcessor.from_pretrained(folder)
    model, info = AutoModel.from_pretrained(folder, trust_remote_code=trust, output_loading_info=True)
    pixels = processor(image, return_tensors="pt").pixel_values
    with torch.no_grad():
        outputs = model.eval()(pixels)
        features = outputs.pooler_output.flatten(1)
        found[name] = {"class": type(model).__name__, "pixels": pixels, "features": features}
        found[name] |= {kind: sorted(info[kind + "_keys"]) for kind in ("missing", "unexpected")}
        if name.startswith("timm"):
            model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
            found[name]["timm"] = model(pixels)
            data = timm.data.resolve_data_config(model=model)
            found[name]["timm_pixels"] = timm.data.create_transform(**data)(image)[None]
    extract = pipeline("image-feature-extraction", model=folder, trust_remote_code=trust, framework="pt")
    found[name]["pipeline"] = extract(image, pool=True, return_tensors=True).flatten(1)
assert not [name for name in sys.modules if name.startswith("hfcontrast.")]
torch.save(found, f"{root}/found.pt")
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Exports every encoder, and loads all of them in one process without hfcontrast."""
    root = tmp_path_factory.mktemp("published")
    values = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize((60, 45), Image.Resampling.BICUBIC)
    image.save(root / "image.png")
    expected = {}
    for name, backbone in BACKBONES.items():
        torch.manual_seed(1)
        encoder = build_encoder(backbone_config(backbone, [32])).to(memory_format=torch.channels_last)
        for buffer_name, buffer in encoder.named_buffers():  # as after some training
            if buffer_name.endswith("running_mean"):
                buffer.normal_(std=0.1)
        processor = build_processor(encoder, 32, 0.8, *COLORS)
        export_encoder(encoder.train(), processor, root / name, timm_settings(32, 0.8, *COLORS))
        pixels = image_transform(processor)([image])
        with torch.no_grad():
            expected[name] = {"pixels": pixels, "features": encode(encoder.eval(), pixels)}
    modules = root / "modules"
    environment = {**os.environ, "HF_MODULES_CACHE": str(modules), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(root), *BACKBONES],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root, expected, torch.load(root / "found.pt")


@pytest.mark.parametrize("name", BACKBONES)
def test_other_machines_get_the_same_features(published, name):
    root, expected, found = published
    expected, found = expected[name], found[name]
    assert found["unexpected"] == [] == found["missing"]
    torch.testing.assert_close(found["pixels"], expected["pixels"])
    torch.testing.assert_close(found["features"], expected["features"], rtol=1e-4, atol=1e-5)
    files = {file.name for file in (root / name).iterdir()}
    assert {"config.json", "model.safetensors"} <= files
    assert not any(file.startswith(".") for file in files)
    assert found["class"] == CLASSES[name]
    torch.testing.assert_close(found["pipeline"], expected["features"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["timm_vit", "timm_resnet"])
def test_timm_alone_gives_the_same_features(published, name):
    _, expected, found = published
    torch.testing.assert_close(found[name]["timm"], expected[name]["features"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[name]["timm_pixels"], expected[name]["pixels"])


def test_the_processor_is_the_one_that_was_asked_for(published):
    root, expected, _ = published
    saved = json.loads((root / "vit" / "preprocessor_config.json").read_text())
    assert saved["size"] == {"shortest_edge": 40} and saved["crop_size"] == {"height": 32, "width": 32}
    assert saved["image_mean"] == list(COLORS[0]) and saved["image_std"] == list(COLORS[1])
    timm = json.loads((root / "timm_vit" / "config.json").read_text())["pretrained_cfg"]
    assert timm["input_size"] == [3, 32, 32] and timm["mean"] == list(COLORS[0]) and timm["crop_pct"] == 0.8
    # All give the same crop of an image: resized to 40 px on the short side, cropped to 32, normalized.
    image = Image.open(root / "image.png").convert("RGB")
    resized = image.resize((round(60 * 40 / 45), 40), Image.Resampling.BICUBIC)
    left = (resized.width - 32) // 2
    plain = torch.tensor(np.asarray(resized.crop((left, 4, left + 32, 36)))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(color).view(3, 1, 1) for color in COLORS)
    for name in ("vit", "timm_vit"):
        pixels = expected[name]["pixels"][0] * std + mean
        assert (pixels - plain).abs().mean() < 0.02  # resizing libraries differ in rounding and by a pixel


def test_gray_and_transparent_images_become_colors():
    encoder = build_encoder(backbone_config(BACKBONES["resnet"], [32]))
    transform = image_transform(build_processor(encoder, 32, 1.0, *COLORS))
    images = [Image.new("L", (40, 50), 100), Image.new("RGBA", (60, 40)), Image.new("P", (32, 32))]
    assert transform(images).shape == (3, 3, 32, 32)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that lies visibly in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}


@pytest.mark.parametrize("where", ["weights", "processor"])
def test_a_failure_midway_leaves_the_former_export_whole(where, tmp_path, monkeypatch):
    encoder = build_encoder(backbone_config(BACKBONES["vit"], [32]))
    processor = build_processor(encoder, 32, 1.0, *COLORS)
    export_encoder(encoder, processor, tmp_path)
    (tmp_path / "README.md").write_text("a card")
    before = contents(tmp_path)

    def fails(self, folder, **kwargs):
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / "config.json").write_text("{half")
        raise OSError("no space left")

    with torch.no_grad():
        encoder.layernorm.weight.add_(1)
    with monkeypatch.context() as patched:
        patched.setattr(type(encoder if where == "weights" else processor), "save_pretrained", fails)
        with pytest.raises(OSError, match="no space left"):
            export_encoder(encoder, processor, tmp_path)
    assert contents(tmp_path) == before
    export_encoder(encoder, processor, tmp_path)
    after = contents(tmp_path)
    assert after.keys() == before.keys() and after["model.safetensors"] != before["model.safetensors"]
    assert after["README.md"] == b"a card" and not list(tmp_path.glob(".*"))


def test_the_whole_method_is_saved(tmp_path, monkeypatch):
    method = build(SimCLR, TINY_BACKBONE, projection_dim=6)
    save_method(method, tmp_path / "method")
    assert [entry.name for entry in tmp_path.iterdir()] == ["method"]
    loaded = SimCLR.from_pretrained(tmp_path / "method")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in method.state_dict().items())

    before = contents(tmp_path / "method")
    monkeypatch.setattr(atomic, "move_files", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        save_method(method, tmp_path / "method")
    assert contents(tmp_path / "method") == before


def test_weights_can_come_from_elsewhere(tmp_path):
    """Sharded training gathers the weights first; the module's own are not whole then."""
    encoder = build_encoder(backbone_config(BACKBONES["resnet"], [32]))
    whole = {name: value + 1 for name, value in encoder.state_dict().items()}
    export_encoder(encoder, build_processor(encoder, 32, 1.0, *COLORS), tmp_path, state_dict=whole)
    loaded = type(encoder).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in loaded.items())


def test_weights_that_modules_share_without_saying_so_are_published(tmp_path):
    """timm's CoaT has one convolution in several blocks."""
    encoder = build_encoder(backbone_config("timm/coat_tiny", [64])).eval()
    export_encoder(encoder, None, tmp_path, timm_settings(64, 1.0, *COLORS))
    model, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encode(model.eval(), pixels), encode(encoder, pixels))
