"""ONNX: the page's block exports a published encoder, and onnxruntime gives its features, for batches of any size."""

import numpy as np
import pytest
import torch

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "small_resnet", "clip"])
def test_onnxruntime_gives_the_features(kind, export, lines):
    made, space = export(kind), {}
    block = lines("ONNX", "python", made.folder).replace("224, 224", "32, 32")
    if kind == "clip":  # as the sentence below the block says
        block = block.replace("AutoModel", "CLIPVisionModelWithProjection").replace(", trust_remote_code=True", "")
        block = block.replace("outputs.pooler_output.flatten(1)", "outputs.image_embeds")
    exec(block, space)
    assert space["features"].shape == (2, made.features.shape[1])
    (found,) = space["session"].run(["features"], {"pixel_values": made.pixels.numpy()})
    np.testing.assert_allclose(found, made.features.numpy(), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(space["model"](made.pixels), made.features)
