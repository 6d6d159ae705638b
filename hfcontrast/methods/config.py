"""MethodConfig: what every method's configuration has."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ..encoders.subconfig import whole_config
from .settings import restored


@strict
class MethodConfig(PreTrainedConfig):
    """Base of every method's configuration; subclasses are decorated with ``@strict`` and add typed fields.

    What a method has to know of the data it declares as a field with the default None, which the training fills in:
    ``num_images: int | None``, the number of images in the data set (for a memory bank; a stream has none), and
    ``image_mean`` and ``image_std: list | None``, what each color is normalized by. What has to be measured on the pictures
    themselves (color clusters, frequencies) it names in ``Method.measured`` and measures in ``Method.measure``.

    Args:
        backbone_config: Configuration of the encoder: any vision model of transformers, or ``TimmWrapperConfig``.
    """

    sub_configs = {"backbone_config": AutoConfig}
    default_backbone = "resnet"  # where there is none, or its model_type is missing

    backbone_config: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        self.backbone_config = whole_config(self.backbone_config, self.default_backbone)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "MethodConfig":
        """As in transformers; what JSON has as lists comes back as the tuples, sets or keys that the settings' types say."""
        return super().from_dict(restored(cls, config_dict), **kwargs)

    def to_diff_dict(self) -> dict[str, Any]:
        """All settings, as defaults may change; and some encoders (pairs of towers) have none to leave out."""
        return self.to_dict()
