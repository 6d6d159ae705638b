"""Encoders with code of hfcontrast include that code: they load, give the same features and are fine-tuned, without hfcontrast."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from hfcontrast.encoders import ColorViewsConfig, ColorViewsModel, SignalEncoderConfig, SignalEncoderModel, encode
from hfcontrast.encoders.color_views import ColorViewsForImageClassification
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.own_architectures import CLASSIFIERS, ENCODERS
from hfcontrast.encoders.signal_encoder import SignalEncoderForAudioClassification
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
OWN = [(config, ENCODERS[config], CLASSIFIERS.get(config, SignalEncoderForAudioClassification)) for config in ENCODERS]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)

ELSEWHERE = """
import sys
sys.modules["hfcontrast"] = None  # any import of it fails
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, pipeline
import transformers
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
    # As run_image_classification.py and run_audio_classification.py load them, train them and load what they have saved.
    kind = getattr(transformers, f"AutoModelFor{'Audio' if name == 'signal' else 'Image'}Classification")
    labels = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": "0", "b": "1", "c": "2"}}
    config = AutoConfig.from_pretrained(f"{root}/{name}", num_labels=3, trust_remote_code=True, **labels)
    classifier, info = kind.from_pretrained(
        f"{root}/{name}", config=config, trust_remote_code=True, output_loading_info=True
    )
    classifier.eval()(inputs, labels=torch.arange(len(inputs))).loss.backward()
    assert all(value.grad is not None for value in classifier.parameters() if value.requires_grad)
    read = []
    classifier.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    classifier.save_pretrained(f"{root}/tuned/{name}")
    tuned = kind.from_pretrained(f"{root}/tuned/{name}", trust_remote_code=True)
    with torch.no_grad():
        logits = [model.eval()(inputs).logits for model in (classifier, tuned)]
    found[f"{name}, classifier"] = sorted(info["missing_keys"]), read[0], logits, tuned.config.id2label
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
def test_its_classifier_reads_the_features(loaded, name):
    expected, found = loaded
    missing, read, (logits, again), names = found[f"{name}, classifier"]
    assert missing == ["classifier.bias", "classifier.weight"]
    torch.testing.assert_close(read, expected[name][1], rtol=1e-4, atol=1e-5)
    assert logits.shape == (len(read), 3) and names == {0: "a", 1: "b", 2: "c"}
    torch.testing.assert_close(logits, again)


@pytest.mark.parametrize("saved", ["encoder", "classifier"])
@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind[0].model_type)
def test_the_configuration_names_the_encoder_and_its_classifier(kind, saved, tmp_path):
    config, encoder, classifier = kind
    fields = {"backbone_config": backbone_config(BACKBONES["vit"], [32])} if "backbone_config" in vars(config()) else {}
    (encoder if saved == "encoder" else classifier)(config(**fields)).save_pretrained(tmp_path)
    found = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert {"AutoConfig", "AutoModel"} < set(found) and len(found) == 3
    for name in found.values():
        module, _, kind = name.partition(".")
        code = ast.parse((tmp_path / f"{module}.py").read_text())
        assert kind in {statement.name for statement in code.body if isinstance(statement, ast.ClassDef)}


def test_its_code_imports_what_transformers_4_has():
    """``transformers.initialization``, ``PreTrainedConfig`` and strict configurations are of version 5: one file knows what to do."""
    for config in ENCODERS:
        file = Path(sys.modules[config.__module__].__file__)
        for code in {file, *(file.parent / f"{name}.py" for name in ("pooling", "subconfig"))}:
            for statement in ast.walk(ast.parse(code.read_text())):
                if isinstance(statement, ast.ImportFrom) and not statement.level:
                    imported = {name.name for name in statement.names}
                    assert not imported & {"initialization", "PreTrainedConfig", "strict"}, code.name


def test_a_classifier_reads_the_mean_of_patches_where_that_is_published():
    backbone = backbone_config(BACKBONES["vit"], [32])
    config = ColorViewsConfig(backbone_config=backbone, channel_groups=[[0]], num_labels=3)  # as colorization has it
    config.feature_pooling, config.num_register_tokens = "mean", 0
    model, read = ColorViewsForImageClassification(config).eval(), []
    model.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        model(pixels)
        torch.testing.assert_close(read[0], encode(model.colour_views, pixels))


@pytest.mark.parametrize("name", [*BACKBONES, "signal"])
def test_it_loads_without_hfcontrast(loaded, name):
    expected, found = loaded
    kind, inputs, features = found[name]
    assert kind == ("SignalEncoderModel" if name == "signal" else "ColorViewsModel")
    torch.testing.assert_close(inputs, expected[name][0])
    torch.testing.assert_close(features, expected[name][1], rtol=1e-4, atol=1e-5)


def test_a_pipeline_extracts_features(loaded):
    assert loaded[1]["pipeline"].shape == (1, 17, 32)
