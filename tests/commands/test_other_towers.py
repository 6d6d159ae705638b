"""Models of images and texts that are not CLIP: evaluated and embedded by what they give, or refused in one sentence."""

import logging

import pyarrow.parquet
import pytest
import torch
from transformers import (
    AlignConfig,
    AlignModel,
    CLIPImageProcessor,
    FlavaConfig,
    FlavaModel,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
)

from hfcontrast import console
from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.embed_data import embed
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.encoders.two_towers import text_features
from hfcontrast.errors import HFContrastError
from tests.evaluation.conftest import LAYERS, TEXT, VISION, save, tiny_tokenizer

pytest_plugins = ["tests.evaluation.conftest"]

NARROW = {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25}


def align(hidden_dim: int, projection_dim: int) -> AlignModel:
    torch.manual_seed(0)
    vision = {**NARROW, "hidden_dim": hidden_dim}
    return AlignModel(AlignConfig(text_config=TEXT, vision_config=vision, projection_dim=projection_dim)).eval()


def saved(model, folder, processor) -> str:
    """A folder with another image processor."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def widths(folder) -> tuple[int, int]:
    features = pyarrow.parquet.read_schema(folder / "part-00000.parquet")
    return tuple(features.field(f"{kind}_embedding").type.list_size for kind in ("image", "text"))


def test_widths_are_those_of_what_a_model_gives(colors_folder, tmp_path, caplog):
    """ALIGN projects its texts only, to what its configuration says; images have the width of its image tower."""
    console._said.clear()
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    source, model = DataSource(colors_folder), saved(align(64, 24), tmp_path / "unequal", processor)
    with caplog.at_level(logging.WARNING):
        report = evaluate_model(model, source, device="cpu")
    assert set(report["scores"]) == {"features", "knn", "linear"}
    sentence = "has features of 80 numbers for images and of 24 for texts, which cannot be compared"
    assert f"zero-shot and retrieval left out: {model} {sentence}" in caplog.text
    with pytest.raises(HFContrastError, match=f"^retrieval: .*{sentence}"):
        evaluate_model(model, source, tasks=["retrieval"], device="cpu")
    told = embed(model, source, tmp_path / "embedded", device="cpu")
    assert (told["rows"], told["unreadable_images"]) == (40, 2) and widths(tmp_path / "embedded") == (80, 24)
    equal = saved(align(320, 80), tmp_path / "equal", processor)
    assert "retrieval" in evaluate_model(equal, source, tasks=["retrieval"], device="cpu")["scores"]


def test_flava_is_read_at_the_token_that_its_loss_compares(colors_folder, tmp_path):
    torch.manual_seed(0)
    parts = {f"{part}_config": LAYERS for part in ("multimodal", "image_codebook")}
    config = FlavaConfig(image_config=VISION, text_config=TEXT, **parts, hidden_size=32, projection_dim=24)
    model = FlavaModel(config).eval()
    tokens = tiny_tokenizer()(["a red square"], return_tensors="pt")
    with torch.no_grad():
        every_token = model.text_projection(model.text_model(**tokens).last_hidden_state)
        assert torch.equal(text_features(model, **tokens), every_token[:, 0])
    folder = save(model, tmp_path / "flava")
    report = evaluate_model(folder, DataSource(colors_folder), tasks=["zero-shot", "retrieval"], device="cpu")
    assert set(report["scores"]) >= {"zero-shot", "retrieval"}
    embed(folder, DataSource(colors_folder), tmp_path / "embedded", device="cpu")
    assert widths(tmp_path / "embedded") == (24, 24)


def test_patches_with_their_places_are_refused(colors_folder, tmp_path):
    vision = {**LAYERS, "patch_size": 8, "num_patches": 4}
    model = Siglip2Model(Siglip2Config(text_config={**TEXT, "projection_size": 32}, vision_config=vision))
    folder = saved(model, tmp_path / "naflex", Siglip2ImageProcessor(patch_size=8, max_num_patches=4))
    for use in (evaluate_model, lambda *given, **more: embed(*given, tmp_path / "embedded", **more)):
        with pytest.raises(
            HFContrastError, match="takes the patches of an image with their places, .* fixed resolution"
        ):
            use(folder, DataSource(colors_folder), device="cpu")


def test_a_model_that_gives_no_vector_for_a_text(clip_folder, colors_folder, tmp_path, monkeypatch):
    """As BLIP-2, whose text features are those of a language model."""
    monkeypatch.setattr("hfcontrast.commands.models.text_features", lambda model, **tokens: None)
    source = DataSource(colors_folder)
    assert set(evaluate_model(clip_folder, source, device="cpu")["scores"]) == {"features", "knn", "linear"}
    with pytest.raises(
        HFContrastError, match=r"\(CLIPModel\) gives no feature vector for a text; --what images embeds"
    ):
        embed(clip_folder, source, tmp_path, device="cpu")
