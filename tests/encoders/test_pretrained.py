"""Released models: their code is not run, and damaged or mismatching files are one sentence."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import ViTConfig, ViTModel

from hfcontrast.commands.models import OpenedModel, open_model
from hfcontrast.encoders import build_encoder, pretrained
from hfcontrast.encoders.config import Backbone
from hfcontrast.encoders.encoder_with_head import EncoderWithHeadConfig, EncoderWithHeadModel
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.small_resnet import SmallResNetConfig, SmallResNetModel
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import HFContrastError, RecipeError
from hfcontrast.training.build_method import color_statistics
from hfcontrast.training.tokenizer import load_tokenizer

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "patch_size": 8, "image_size": 16}
RESNET = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8, "layer_type": "basic"}


@pytest.fixture
def folder(tmp_path):
    """A small ViT as somebody would release it."""
    ViTModel(ViTConfig(num_hidden_layers=2, **TINY)).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.fixture
def nobody_answers(monkeypatch):
    """Fails where a library asks at the terminal."""

    def asked(*_):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", asked)


def use(folder):
    """Reads a folder's configuration and weights as a run does."""
    encoder = build_encoder(backbone_config({"pretrained": str(folder)}, [16]))
    return load_weights(encoder, {"pretrained": str(folder)})


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def plant(folder, name, **values):
    """Puts code beside a file that names it, which leaves a trace when it is run."""
    (folder / "planted.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Planted: pass\n")
    if not (folder / name).exists():
        (folder / name).write_text("{}")
    change(folder / name, **values)


def test_code_that_a_model_brings_is_neither_run_nor_asked_about(folder, nobody_answers):
    plant(folder, "config.json", model_type="planted", auto_map={"AutoConfig": "planted.Planted"})
    planted = {"AutoImageProcessor": "planted.Planted"}
    plant(folder, "preprocessor_config.json", image_processor_type="Planted", auto_map=planted)
    plant(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["planted.Planted", None]})
    recipe = SimpleNamespace(backbone=Backbone.read({"pretrained": str(folder)}), data=SimpleNamespace(mean=None))
    for action in (
        lambda: use(folder),
        lambda: load_weights(build_encoder(ViTConfig(**TINY)), {"pretrained": str(folder)}),
        lambda: color_statistics(recipe),
        lambda: load_tokenizer(str(folder), "text.tokenizer", recipe),
        lambda: open_model(str(folder)),
    ):
        with pytest.raises(
            HFContrastError, match="needs Python code that it brings with it, which is not run: "
        ) as error:
            action()
        assert "\n" not in str(error.value)
    assert not (folder / "ran").exists()


def test_our_own_architectures_are_loaded_with_our_own_code(tmp_path, nobody_answers):
    inner = backbone_config({"model_type": "resnet", **RESNET}, [16])
    with_head = EncoderWithHeadModel(EncoderWithHeadConfig(backbone_config=inner, feature_size=16, hidden_size=8))
    for number, encoder in enumerate((SmallResNetModel(SmallResNetConfig(depth=18)), with_head)):
        folder = tmp_path / str(number)
        encoder.save_pretrained(folder)
        copies = list(folder.glob("*.py"))
        assert copies  # for those who do not have hfcontrast
        for copy in copies:
            copy.write_text(f"open({str(folder / 'ran')!r}, 'w')\n" + copy.read_text())
        loaded = use(folder)
        assert loaded.sentence.startswith(f"{len(encoder.state_dict())} of {len(encoder.state_dict())} encoder tensors")
        assert type(open_model(str(folder), device="cpu", trust_remote_code=True).model) is type(encoder)
        assert not (folder / "ran").exists()


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other_architecture(folder):
    other = build_encoder(backbone_config({"model_type": "resnet", **RESNET}, [16]))
    other.save_pretrained(folder / "other")
    (folder / "other" / "model.safetensors").rename(folder / "model.safetensors")


def fewer_layers(folder):
    ViTModel(ViTConfig(num_hidden_layers=1, **TINY)).save_pretrained(folder / "other")
    (folder / "other" / "model.safetensors").rename(folder / "model.safetensors")


DAMAGES = {
    "cut": (cut, "cannot be loaded.*: its file of weights is cut off or damaged: download it again"),
    "empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "cannot be loaded"),
    "noise": (lambda folder: (folder / "model.safetensors").write_bytes(bytes(range(256)) * 9), "cannot be loaded"),
    "gone": (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded"),
    "no pickle": (
        lambda folder: torch.save(open, (folder / "model.safetensors").rename(folder / "pytorch_model.bin")),
        "cannot be loaded",
    ),
    "foreign": (other_architecture, "lacks? .* tensors"),
    "fewer layers": (fewer_layers, r"lacks? 16 of .* tensors.*layers?\.1\."),
    "other shape": (lambda folder: change(folder / "config.json", intermediate_size=32), r"lacks? \d+ of .* tensors"),
    "configuration cut": (lambda folder: (folder / "config.json").write_text('{"model_type": '), "cannot be loaded"),
    "configuration a list": (lambda folder: (folder / "config.json").write_text("[1]"), "cannot be loaded"),
    "configuration empty": (lambda folder: (folder / "config.json").write_text("{}"), "cannot be loaded"),
    "configuration odd": (lambda folder: change(folder / "config.json", hidden_size="wide"), "cannot be loaded"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_or_foreign_weights_are_one_sentence(name, folder):
    damage, words = DAMAGES[name]
    damage(folder)
    for action, error in ((use, RecipeError), (lambda path: open_model(str(path), device="cpu"), HFContrastError)):
        with pytest.raises(error, match=words) as caught:
            action(folder)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_damaged_image_processor_is_not_taken_for_none(folder):
    recipe = SimpleNamespace(backbone=Backbone.read({"pretrained": str(folder)}), data=SimpleNamespace(mean=None))
    assert color_statistics(recipe)[0] == (0.485, 0.456, 0.406)  # there is none
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.1,')
    with pytest.raises(RecipeError, match="pretrained: .* cannot be loaded"):
        color_statistics(recipe)


@pytest.mark.parametrize("package, library", [("sentencepiece", "SentencePiece"), ("protobuf", "protobuf")])
def test_a_package_that_a_tokenizer_needs_is_named_with_its_extra(package, library, monkeypatch):
    error = ImportError(f"\nSiglipTokenizer requires the {library} library but it was not found in your environment.")
    assert "hfcontrast[text]" not in pretrained.reason(error)  # it is there: something else is wrong
    monkeypatch.setattr(pretrained, "find_spec", lambda module: None)
    assert f"needs the package {package}, which is not installed: pip install 'hfcontrast[text]'" in pretrained.reason(
        error
    )


@pytest.mark.parametrize(
    "text, told",
    [
        (
            "Can't load image processor for 'x'. [...] make sure you don't have a local directory with the same name. Otherwise, make sure 'x' "
            "is the correct path to a directory containing a preprocessor_config.json file",
            "there is no preprocessor_config.json in it",
        ),
        ("Error while deserializing header: header too large", "such as a pointer of git-lfs"),
        ("Error while deserializing header: incomplete metadata, file not fully covered", "cut off or damaged"),
    ],
)
def test_what_libraries_say_of_files_is_told_plainly(text, told):
    assert told in pretrained.reason(OSError(text))


def test_folders_that_are_no_models_and_damaged_weights_are_named(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(HFContrastError, match="such as a pointer of git-lfs"):
        open_model(str(folder))
    (folder.parent / "preprocessor_config.json").write_text("{}")
    with pytest.raises(
        HFContrastError, match=f"no preprocessor_config.json in it, but in the folder above: name {folder.parent}"
    ):
        _ = OpenedModel(None, str(folder), None, {}).image_processor
    (folder / "config.json").rename(folder / "modules.json")
    with pytest.raises(HFContrastError, match="there is no config.json in it"):
        open_model(str(folder))
