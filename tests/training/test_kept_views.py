"""The whole method of a run has the run's views, where they are other than its class's."""

import pytest
from transformers import AutoModel

from hfcontrast.methods.simclr import SimCLR
from hfcontrast.recipe import load_recipe
from hfcontrast.testing.small import TINY_BACKBONE
from hfcontrast.training.build_method import build_method


@pytest.mark.parametrize("views", [{}, {"all": {"size": 32, "blur": 0.25}}])
def test_the_method_of_a_run_is_saved_with_its_views(views, tmp_path):
    backbone = TINY_BACKBONE | {"image_size": 32}
    data, train = {"path": "builtin/digits"}, {"steps": 1, "output": str(tmp_path / "run")}
    recipe = load_recipe(
        {"method": {"name": "simclr"}, "backbone": backbone, "data": data, "views": views, "train": train}
    )
    resolved = recipe.resolved_views(SimCLR)
    method, _ = build_method(recipe, resolved, {})
    method.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert loaded.views == resolved
    assert (loaded.config.training_views is None) == (not views)
