"""Names read from the sources of transformers' configurations are those that the classes have."""

import pytest
from transformers import CONFIG_MAPPING, PreTrainedConfig

from hfcontrast.encoders.config import known_fields
from hfcontrast.encoders.config_names import fields_in_source


@pytest.mark.parametrize("model_type", ["vit", "resnet", "dinov2", "convnext", "swin", "clip", "bert", "vit_mae"])
def test_names_in_the_source_are_those_of_the_class(model_type):
    common = set(PreTrainedConfig.__dataclass_fields__)
    assert fields_in_source(model_type) | common == known_fields(CONFIG_MAPPING[model_type]) | common


@pytest.mark.parametrize("model_type", ["no_such_model", "small_resnet", "hfcontrast_simclr", "../auto"])
def test_what_is_not_known_is_not_guessed(model_type):
    assert fields_in_source(model_type) is None
