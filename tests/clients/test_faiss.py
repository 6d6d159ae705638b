"""faiss on what ``hfcontrast embed`` writes: the page's command and its block."""

import shlex

import numpy as np
import pytest

from hfcontrast.commands.cli import main

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm", "small_resnet", "clip"])
def test_neighbors_of_embedded_images(kind, export, lines):
    folder, space = export(kind).folder, {}
    program, *arguments = shlex.split(lines("faiss", "bash", folder))
    assert program == "hfcontrast"
    main([*arguments, "--device", "cpu", *(["--what", "images"] * (kind == "clip"))])
    exec(lines("faiss", "python", folder), space)
    vectors = np.array(space["rows"].with_format("numpy")["image_embedding"], dtype=np.float32)
    similar = vectors @ space["query"]
    assert len(vectors) >= 16 and space["similarities"][0] == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(space["similarities"], np.sort(similar)[::-1][:10], atol=1e-5)
    np.testing.assert_allclose(similar[space["neighbors"]["index"]], space["similarities"], atol=1e-5)
