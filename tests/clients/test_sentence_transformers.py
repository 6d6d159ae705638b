"""sentence-transformers on published towers and encoders: its embeddings are the features of the cards."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from hfcontrast.encoders import encode
from hfcontrast.evaluation.inputs import image_transform

pytest.importorskip("sentence_transformers", minversion="5.4")
pytestmark = pytest.mark.slow


@pytest.fixture
def photographs():
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)) for _ in range(3)]


def test_texts_and_images_of_clip(export, lines, photographs):
    folder, space = export("clip").folder, {}
    photographs[0].save("image.jpg")
    exec(lines("sentence-transformers", "python", folder), space)
    assert space["similarities"].shape == (1, 2)
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    texts = ["a cat", "a dog"]
    with torch.no_grad():
        tokens = processor(text=texts, padding="max_length", truncation=True, return_tensors="pt")
        images = processor(images=photographs, return_tensors="pt")
        expected_texts = model.get_text_features(**tokens).pooler_output
        expected_images = model.get_image_features(**images).pooler_output
    torch.testing.assert_close(torch.tensor(space["texts"]), expected_texts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(space["model"].encode(photographs)), expected_images, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "small_resnet"])
def test_encoders_of_images(kind, export, lines, photographs):
    from sentence_transformers import SentenceTransformer

    folder, space = export(kind).folder, {}
    if kind == "vit":
        exec(lines("sentence-transformers", "python", folder, 1), space)
        model = space["model"]
    else:
        model = SentenceTransformer(str(folder), trust_remote_code=kind == "small_resnet", device="cpu")
    found = torch.tensor(model.encode(photographs))
    encoder, processor = export(kind).loaded()
    with torch.no_grad():
        expected = encode(encoder, image_transform(processor)(photographs))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
