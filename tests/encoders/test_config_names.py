"""Names read from the sources of transformers' configurations are those that the classes have."""

import pytest
from transformers import CONFIG_MAPPING, PreTrainedConfig

from hfcontrast.encoders import config_names
from hfcontrast.encoders.config import known_fields
from hfcontrast.encoders.config_names import fields_in_source, model_types_in_source


@pytest.mark.parametrize("model_type", ["vit", "resnet", "dinov2", "convnext", "swin", "clip", "bert", "vit_mae"])
def test_names_in_the_source_are_those_of_the_class(model_type):
    common = set(PreTrainedConfig.__dataclass_fields__)
    assert fields_in_source(model_type) | common == known_fields(CONFIG_MAPPING[model_type]) | common


@pytest.mark.parametrize("model_type", ["no_such_model", "small_resnet", "hfcontrast_simclr", "../auto"])
def test_what_is_not_known_is_not_guessed(model_type):
    assert fields_in_source(model_type) is None


def test_the_architectures_in_the_source_are_those_of_transformers():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert model_types_in_source() == set(CONFIG_MAPPING_NAMES)


@pytest.mark.parametrize(
    "source, names",
    [
        ('CONFIG_MAPPING_NAMES = OrderedDict([("vit", "ViTConfig")])', {"vit"}),
        ('CONFIG_MAPPING_NAMES: OrderedDict[str, str] = OrderedDict([("vit", "ViTConfig")])', {"vit"}),
        ('CONFIG_MAPPING_NAMES.update({"vit": "ViTConfig"})', {"vit"}),
        ('OTHER_NAMES = OrderedDict([("vit", "ViTConfig")])', None),
        ("CONFIG_MAPPING_NAMES = found_somewhere()", None),
        ("CONFIG_MAPPING_NAMES.update(found_somewhere())", None),
        ('CONFIG_MAPPING_NAMES.pop("vit")', None),
    ],
)
def test_a_table_that_is_not_plain_is_not_read(source, names, tmp_path, monkeypatch):
    (tmp_path / "auto").mkdir()
    (tmp_path / "auto" / "configuration_auto.py").write_text(source)
    monkeypatch.setattr(config_names, "_models", lambda: tmp_path)
    assert model_types_in_source.__wrapped__() == names
