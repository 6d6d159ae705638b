"""What is published loads without hfcontrast, in the oldest and the newest transformers that the page names.

HFCONTRAST_OLD_PYTHON and HFCONTRAST_NEW_PYTHON are interpreters with these versions; the running one is always tried.
"""

import os
import re
import subprocess
import sys

import pytest
import torch

from hfcontrast.atomic import write_json

pytestmark = pytest.mark.slow

KINDS = ["vit", "resnet", "timm", "small_resnet", "clip"]
INTERPRETERS = {"this interpreter": None, "oldest": "HFCONTRAST_OLD_PYTHON", "newest": "HFCONTRAST_NEW_PYTHON"}
ELSEWHERE = """
import json, sys
sys.modules["hfcontrast"] = None  # any import of it fails
import torch, transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification
torch.set_num_threads(1)
found = {"version": transformers.__version__}
for name, (folder, features) in json.load(open("folders.json")).items():
    pixels = torch.load(f"{name}.pt")
    model, info = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    size = AutoImageProcessor.from_pretrained(folder)(Image.new("RGB", (48, 40)), return_tensors="pt")
    images = {"pixel_values": pixels}
    with torch.no_grad():
        outputs = None if name == "clip" else model.eval()(pixels)
        if transformers.__version__ < "5":
            features = features.replace("(**images).pooler_output", "(**images)")  # as the card says
        features = eval(features, {"model": model.eval(), "outputs": outputs, "images": images})
    found[name] = features, tuple(size.pixel_values.shape), sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if name != "clip":
        model = AutoModelForImageClassification.from_pretrained(folder, num_labels=3, trust_remote_code=True)
        loss = model(pixels, labels=torch.tensor([0, 1, 2, 0])).loss
        loss.backward()
        model.save_pretrained(f"tuned/{name}")
        again = AutoModelForImageClassification.from_pretrained(f"tuned/{name}", trust_remote_code=True)
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
torch.save(found, "found.pt")
"""


@pytest.fixture(scope="module", params=INTERPRETERS)
def found(request, export, tmp_path_factory):
    variable = INTERPRETERS[request.param]
    interpreter = os.environ.get(variable, "") if variable else sys.executable
    if not interpreter:
        pytest.skip(f"{variable} is not set: an interpreter with the {request.param} transformers")
    place, folders = tmp_path_factory.mktemp("elsewhere"), {}
    for kind in KINDS:
        made = export(kind)
        (features,) = re.findall(
            r"^ *(?:image_)?features = ((?:outputs|model)\..*?)(?:  #.*)?$",
            (made.folder / "README.md").read_text(),
            re.M,
        )
        if kind == "clip":
            assert "In transformers 4 `get_image_features`" in (made.folder / "README.md").read_text()
        folders[kind] = str(made.folder), features
        torch.save(made.pixels, place / f"{kind}.pt")
    write_json(place / "folders.json", folders)
    environment = {**os.environ, "HF_MODULES_CACHE": str(place / "modules")}
    environment.pop("PYTHONPATH", None)
    command = [os.path.abspath(interpreter) if os.sep in interpreter else interpreter, "-c", ELSEWHERE]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(place / "found.pt", weights_only=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_gives_the_evaluated_features(kind, found, export):
    features, prepared, missing, unexpected = found[kind]
    torch.testing.assert_close(features, export(kind).features, rtol=1e-5, atol=1e-6)
    assert prepared == (1, 3, 32, 32) and not missing and not unexpected
