"""Renamed settings: the old name works wherever a setting is given, and old runs can be resumed."""

import json
import warnings

import pytest
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig

from hfcontrast.encoders import ColorViewsConfig
from hfcontrast.errors import RecipeError
from hfcontrast.methods.contract.config import MethodConfig
from hfcontrast.methods.registry import get_method
from hfcontrast.recipe import json_schema, load_recipe

# Method, old name, new name, another value than the default, and the recipe's hash under the old names, as version 0.1 computed it.
RENAMED = [
    ("mae", "normalise_pixels", "normalize_pixels", False, "e9f03c19bf514efa"),
    ("cmc", "colour_space", "color_space", "rgb", "64458a2c373f9488"),
    ("byol", "weight_standardisation", "weight_standardization", True, "8e30365d916b9efd"),
    ("relative_patch", "standardise", "standardize", False, "c46e2d810bd06521"),
    ("colorization", "neighbours", "neighbors", 3, "d52b3696302c3c41"),
]


def recipe(method, *overrides, **settings):
    values = {
        "method": {"name": method, **settings},
        "backbone": "timm/vit_tiny_patch16_224",
        "data": {"path": "builtin/shapes"},
        "train": {"steps": 3, "batch_size": 8},
    }
    return load_recipe(values, overrides, source="recipe.yaml")


@pytest.mark.parametrize("method, old, new, value, hash", RENAMED)
def test_old_names_work_in_recipes_and_the_fingerprint_stays(method, old, new, value, hash):
    with pytest.warns(FutureWarning, match=f"recipe.yaml: method.{old} is called method.{new} now") as warned:
        found = recipe(method, **{old: value})
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = recipe(method, f"method.{new}={json.dumps(value)}")
        assert recipe(method).fingerprint().hash == hash
    assert found.method == expected.method and found.method.options[new] == value and old not in found.method.options
    assert found.fingerprint().hash == expected.fingerprint().hash != hash
    with pytest.raises(RecipeError, match=f"method.{old}: it is called {new} now, and both are given: keep {new}"):
        recipe(method, **{old: value, new: value})
    properties = next(
        kind["properties"] for kind in json_schema({method: get_method(method)})["properties"]["method"]["oneOf"]
    )
    assert properties[old]["deprecated"] and "deprecated" not in properties[new]


def test_old_names_are_reported_with_file_and_line_and_errors_name_them(tmp_path):
    file = tmp_path / "recipe.yaml"
    text = "data: {path: builtin/shapes}\nbackbone: timm/resnet18\ntrain: {steps: 1}\nmethod:\n  name: cmc\n  colour_space: "
    file.write_text(text + "rgb\n")
    with pytest.warns(FutureWarning) as warned:
        load_recipe(file)
    assert [str(w.message) for w in warned] == [
        f"{file}:6: method.colour_space is called method.color_space now; the old name works until hfcontrast 0.3"
    ]
    assert warned[0].filename == __file__
    for value in ("3", "cmyk"):
        file.write_text(text + value + "\n")
        with pytest.warns(FutureWarning), pytest.raises(RecipeError, match=r"recipe.yaml:6: method.colour_space: "):
            load_recipe(file)
    file.write_text(text + "rgb\n  color_space: rgb\n  negatives: none\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, ["optim.lr=fast"])
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "method.colour_space",
        "method.negatives",
        "optim.lr",
    ]


def test_the_hash_of_another_value_stays():
    assert recipe("mae", normalize_pixels=False).fingerprint().hash == "1794e7c9e95c18f4"


def test_the_command_line_goes_before_the_file_under_either_name():
    with pytest.warns(FutureWarning):
        assert recipe("mae", "method.normalise_pixels=false").method.options["normalize_pixels"] is False
    with pytest.warns(FutureWarning):
        found = recipe("mae", "method.normalise_pixels=false", normalize_pixels=True)
    assert found.method.options["normalize_pixels"] is False


@pytest.mark.parametrize("method, old, new, value, hash", RENAMED)
def test_old_names_work_in_python_and_in_saved_configurations(method, old, new, value, hash, tmp_path):
    config_class = get_method(method).config_class
    with pytest.warns(FutureWarning, match=f"{old} of {config_class.__name__} is called {new} now") as warned:
        config = config_class(**{old: value})
    assert len(warned) == 1 and warned[0].filename == __file__
    assert getattr(config, new) == getattr(config, old) == value  # the old name can be read too
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert new in saved and old not in saved
    saved[old] = saved.pop(new)
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.warns(FutureWarning) as warned:
        again = AutoConfig.from_pretrained(tmp_path)
    assert [str(w.message) for w in warned if "is called" in str(w.message)] == [
        f"the setting {old} of {config_class.__name__} is called {new} now; the old name works until hfcontrast 0.3"
    ]
    assert getattr(again, new) == value
    with pytest.raises(ValueError, match="both are given"):
        config_class(**{old: value, new: value})


def test_what_is_computed_from_a_renamed_setting_sees_it():
    with pytest.warns(FutureWarning):
        config = get_method("cmc").config_class(colour_space="rgb")
    assert config.backbone_config.color_space == "rgb" and len(config.backbone_config.channel_groups) == 3


def test_saved_encoders_of_color_views_are_read():
    config = ColorViewsConfig.from_dict({"model_type": "colour_views", "colour_space": "rgb"})
    assert config.color_space == "rgb" and len(config.channel_groups) == 3 and "colour_space" not in config.to_dict()
    with pytest.raises(Exception, match="color_space"):
        ColorViewsConfig(colour_space="cmyk")


def test_a_plugins_configuration_can_rename_too():
    @strict
    class MineConfig(MethodConfig):
        model_type = "hfcontrast_mine_renamed"
        renamed_settings = {"width": "hidden_dim", "size": "hidden_dim"}
        hidden_dim: int = 8
        twice: int = 0

        def __post_init__(self, **kwargs):
            self.twice = 2 * self.hidden_dim
            super().__post_init__(**kwargs)

    @strict
    class OursConfig(MineConfig):
        renamed_settings = {**MineConfig.renamed_settings, "power": "exponent"}
        exponent: int = 2

    for old in ("width", "size"):
        with pytest.warns(FutureWarning, match=f"{old} of OursConfig is called hidden_dim now") as warned:
            config = OursConfig(**{old: 3, "exponent": 4})
        assert len(warned) == 1 and (config.hidden_dim, config.twice, config.exponent) == (3, 6, 4)
    with pytest.warns(FutureWarning), pytest.raises(Exception, match="hidden_dim"):
        OursConfig(width="wide")
