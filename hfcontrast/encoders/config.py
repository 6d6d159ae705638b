"""The typed backbone of a recipe: which encoder, where its first weights come from, and how much of them is trained.

Nothing heavy is imported here: a recipe is read and checked before torch is.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

PAIR = "vision-text-dual-encoder"  # transformers' name for two towers that are put together
TIMM = "timm_wrapper"  # and for an encoder of timm
# Architectures of hfcontrast's own, see own_architectures.py: transformers knows them only once that is imported.
OWN = ("small_resnet", "encoder_with_head", "signal_encoder", "colour_views")
TOWERS = ("vision", "text")
Tower = Literal["vision", "text"]
_TIMM_PREFIX = "timm/"


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters on released weights; what is None takes the default of :func:`~.lora.add_lora`.

    Attributes:
        r: Rank.
        alpha: A change is scaled by alpha / r.
        dropout: Share of an adapter's inputs that is dropped, in [0, 1).
        target_modules: Names, or ends of names, of the layers that get adapters.
        towers: Which towers of a model with two get adapters.
    """

    r: Annotated[int, Field(ge=1)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    towers: Annotated[list[Tower], Field(min_length=1)] | None = None

    def settings(self) -> dict[str, Any]:
        """What is given, as arguments of :func:`~.lora.add_lora`."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Weights:
    """Released weights: a folder or a name on the Hub.

    Attributes:
        name: Folder or name.
        revision: Branch, tag or commit on the Hub.
        argument: Which part of the backbone names them: ``pretrained``, ``vision.pretrained`` or ``text.pretrained``.
    """

    name: str
    revision: str | None = None
    argument: str = "pretrained"


@dataclass(frozen=True, eq=False)
class Backbone:
    """The encoder that a recipe asks for, parsed by :meth:`read`.

    Attributes:
        written: As the recipe has it: ``timm/ARCHITECTURE`` or a mapping.
        model_type: transformers' name of the architecture; None where released weights say it.
        fields: Fields of its configuration.
        pretrained: Folder or Hub name of the released weights that it starts from.
        revision: Branch, tag or commit of these on the Hub.
        vision: The image tower of a pair of towers.
        text: Its text tower.
        min_matched: Share of the encoder's tensors that the weights must have, in (0, 1].
        lora: Adapters that are trained instead of the weights.
        locked: Towers that keep their released weights.
        trainable_layers: How many of the last layers are trained, and what comes after them; the layers below keep their released weights.
        freeze_batch_norm: Batch normalization uses the released running statistics, which stay, in training too.
    """

    written: str | dict[str, Any]
    model_type: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    revision: str | None = None
    vision: "Backbone | None" = None
    text: "Backbone | None" = None
    min_matched: Annotated[float, Field(gt=0, le=1)] | None = None
    lora: LoRA | None = None
    locked: list[Tower] | None = None
    trainable_layers: Annotated[int, Field(ge=1)] | None = None
    freeze_batch_norm: bool | None = None

    @classmethod
    def read(cls, written: "str | Mapping[str, Any] | Backbone", tower: bool = False) -> "Backbone":
        """Parses what a recipe says, without checking it: a value of the wrong type stays in ``written`` alone.

        Args:
            written: ``timm/ARCHITECTURE``, ``{model_type: ..., ...}`` or ``{pretrained: FOLDER_OR_HUB_NAME}``; two towers of any
                kind as ``{model_type: vision-text-dual-encoder, projection_dim: ..., vision: BACKBONE, text: BACKBONE}``.
            tower: Whether it is one tower of a pair, where the keys of :data:`ADAPTATION` are none.
        """
        if isinstance(written, cls):
            return written
        if isinstance(written, str):
            if not written.startswith(_TIMM_PREFIX):
                return cls(written)
            return cls(written, TIMM, {"architecture": written.removeprefix(_TIMM_PREFIX)})
        fields = copy.deepcopy(dict(written))
        own: dict[str, Any] = {}
        if not tower:
            own = {name: fields.pop(name, None) for name in ADAPTATION}
            own["lora"] = _read_lora(own["lora"])
        if "pretrained" in fields:
            own |= {name: fields.pop(name, None) for name in WEIGHTS}
        else:
            own["model_type"] = fields.pop("model_type", None)
            if own["model_type"] == PAIR:
                own |= {name: cls._read_tower(fields.pop(name, None)) for name in TOWERS}
        return cls(copy.deepcopy(dict(written)), fields=fields, **own)

    @classmethod
    def _read_tower(cls, written: Any) -> "Backbone | None":
        return cls.read(written, tower=True) if written and isinstance(written, str | Mapping | cls) else None

    @property
    def weights(self) -> dict[str, Weights]:
        """The released weights by tower, ``vision`` and ``text``, or by ``""`` for the encoder as a whole; none: random ones."""
        parts = {"": self, "vision": self.vision, "text": self.text}
        return {
            tower: Weights(part.pretrained, part.revision, f"{tower}.pretrained".lstrip("."))
            for tower, part in parts.items()
            if part is not None and part.pretrained
        }

    def weights_of(self, tower: Tower) -> Weights | None:
        """The released weights of one tower, of its own or as part of the whole; None for random ones."""
        return self.weights.get("" if getattr(self, tower) is None else tower)

    def __eq__(self, other: object) -> bool:
        """Equal to another backbone, or to what a recipe says, that is written in the same way."""
        return self.written == getattr(other, "written", other)

    __hash__ = None

    # Until version 0.3 it can be read as the text or mapping that recipe.backbone was.

    def __getitem__(self, key: str) -> Any:
        _warn_of_mapping()
        return self.written[key]

    def get(self, key: str, default: Any = None) -> Any:
        """A key of :attr:`written`."""
        _warn_of_mapping()
        return self.written.get(key, default)

    def __iter__(self) -> Any:
        _warn_of_mapping()
        return iter(self.written)

    def keys(self) -> Any:
        """The keys of :attr:`written`."""
        _warn_of_mapping()
        return self.written.keys()

    def values(self) -> Any:
        """The values of :attr:`written`."""
        _warn_of_mapping()
        return self.written.values()

    def items(self) -> Any:
        """The keys and values of :attr:`written`."""
        _warn_of_mapping()
        return self.written.items()

    def __len__(self) -> int:
        _warn_of_mapping()
        return len(self.written)

    def __bool__(self) -> bool:
        return True


ADAPTATION = (
    "min_matched",
    "lora",
    "locked",
    "trainable_layers",
    "freeze_batch_norm",
)  # keys beside an architecture or weights that say what is trained of these
WEIGHTS = ("pretrained", "revision")


def _read_lora(written: Any) -> LoRA | None:
    if not isinstance(written, Mapping):
        return None
    return LoRA(**{name: value for name, value in written.items() if name in LoRA.__dataclass_fields__})


def _warn_of_mapping() -> None:
    text = "recipe.backbone is a Backbone now, whose `written` is the mapping; reading it as one works until hfcontrast 0.3"
    warnings.warn(text, FutureWarning, stacklevel=3)


def known_fields(config_class: Any) -> set[str]:
    """Names that a configuration class of transformers has; it keeps any other silently, to no effect."""
    return set(config_class.__dataclass_fields__) | set(config_class.attribute_map)


def has_own_towers(config_class: Any) -> bool:
    """Whether a configuration class has an image and a text tower of its own kind, each with known fields, as CLIP's has."""
    towers = [config_class.sub_configs.get(f"{tower}_config") for tower in TOWERS]
    return all(isinstance(tower, type) and hasattr(tower, "__dataclass_fields__") for tower in towers)
