"""MethodConfig: the base of every method's configuration."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ...encoders.subconfig import whole_config
from .progress import Phase
from .renamed_settings import accept_old_names, with_new_names
from .settings import restored


@strict
class MethodConfig(PreTrainedConfig):
    """Base of every method's configuration; subclasses are decorated with ``@strict`` and add typed fields.

    Facts about the data are declared as fields with the default None, which the training fills in:
    ``num_images: int | None``, the number of images in the data set (for a memory bank; a stream has none), and
    ``image_mean`` and ``image_std: list | None``, what each color is normalized by. Facts that are computed from the images
    (color clusters, frequencies) are named in ``Method.data_statistics`` and computed in ``Method.compute_data_statistics``.

    Attributes:
        renamed_settings: Renamed settings, old name -> new name. The old one keeps working wherever a setting is given
            (recipes, the command line, Python, a saved config.json), with one FutureWarning, and recipes keep their
            fingerprint: a run that was started with the old name can be resumed.
        places: Settings that say where something lies, such as a released teacher: a resumed run may name another place, and the
            method compares by itself that what lies there is the same.

    Args:
        backbone_config: Configuration of the encoder: any vision model of transformers, or ``TimmWrapperConfig``.
        training_views: The fields of the method's views, where they are other than its class's; written by ``save_pretrained``.
    """

    sub_configs = {"backbone_config": AutoConfig}
    default_backbone = "resnet"  # where there is none, or its model_type is missing
    renamed_settings: ClassVar[dict[str, str]] = {}
    places: ClassVar[tuple[str, ...]] = ()
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["metrics", "state"]  # a Trainer's predictions are embeddings

    backbone_config: dict | PreTrainedConfig | None = None
    training_views: list[dict[str, Any]] | None = None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        accept_old_names(cls)

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """What begins or is complete only after some steps, such as full queues.

        A training that is too short for one warns before its first step. Frozen parameters (``Method.frozen``) that name a
        setting are included without being listed here.

        Args:
            steps_per_epoch: Optimizer steps in one pass over the data.
            batch_size: Images of one step, over all processes.
        """
        return []

    def __post_init__(self, **kwargs):
        self.backbone_config = whole_config(self.backbone_config, self.default_backbone)
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "MethodConfig":
        """As in transformers; JSON's lists and keys are restored to the tuples, sets or numbers of the settings' types."""
        return super().from_dict(restored(cls, with_new_names(cls, config_dict)), **kwargs)

    def to_diff_dict(self) -> dict[str, Any]:
        """All settings, since defaults may change, and since configurations of two towers have no defaults.

        Where a configuration was loaded from is no part of a file, as in transformers: it may be a folder of one's own.
        """
        settings = _without_origin(self.to_dict())
        return {name: value for name, value in settings.items() if name != "training_views" or value is not None}


def _without_origin(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_origin(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name != "_name_or_path"
    }
