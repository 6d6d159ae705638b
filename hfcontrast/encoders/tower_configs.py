"""Configurations of models with an image and a text tower: settings that are not given are derived from the tokenizer and the views."""

import difflib
from typing import Any, get_args

import torch
from transformers import (
    MODEL_MAPPING,
    AutoModel,
    PreTrainedConfig,
    SiglipConfig,
    VisionTextDualEncoderConfig,
)

from ..errors import ArgumentError, under
from .config import known_fields
from .families import family_of_type

_IMAGE_TOWERS = "vit, dinov2, dinov3_vit, clip_vision_model, siglip_vision_model, swin, convnext or timm/ARCHITECTURE"
_TEXT_TOWERS = "bert, roberta, xlm-roberta, mpnet, albert or clip_text_model"
_LEGACY_END = 2  # the id of the end in checkpoints of CLIP's text tower that had it wrong


def is_two_towers_config(config: PreTrainedConfig) -> bool:
    """Whether it is the configuration of a model that maps images and texts into one space."""
    if not (hasattr(config, "vision_config") and hasattr(config, "text_config")) or type(config) not in MODEL_MAPPING:
        return False
    model = MODEL_MAPPING[type(config)]
    model = model[0] if isinstance(model, tuple) else model
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")


def joint_config(
    config_class: type[PreTrainedConfig], fields: dict[str, Any], image_size: int, text: Any
) -> PreTrainedConfig:
    """Configuration of a model with two towers of its own, such as CLIP and SigLIP.

    Args:
        config_class: Its class.
        fields: Its fields; of the towers under ``text_config`` and ``vision_config``.
        image_size: Of the image tower, in pixels, where it is not among them.
        text: Facts of the tokenizer, or None.

    Raises:
        ArgumentError: Unknown fields, or values that contradict each other or the tokenizer.
    """
    towers = {name: dict(fields.pop(name, None) or {}) for name in ("vision_config", "text_config")}
    classes = {name: config_class.sub_configs[name] for name in towers}
    for name, given in towers.items():
        with under(name):
            refuse_unknown(classes[name], given)
        if "projection_dim" in fields and "projection_dim" in known_fields(classes[name]):
            given.setdefault("projection_dim", fields["projection_dim"])  # read where a tower is loaded alone
    if "image_size" in known_fields(classes["vision_config"]):
        towers["vision_config"].setdefault("image_size", image_size_field(classes["vision_config"], image_size))
    if issubclass(config_class, SiglipConfig):
        _equal_widths(config_class, towers)
    with under("text_config"):
        towers["text_config"] = text_fields(classes["text_config"], towers["text_config"], text)
    return config_class(**fields, **towers)


def image_size_field(config_class: type[PreTrainedConfig], size: int) -> int | list[int]:
    """The side of square images as a field ``image_size`` has it: a number, or where it takes none height and width."""
    kind = config_class.__dataclass_fields__["image_size"].type
    return size if isinstance(kind, str) or int in (kind, *get_args(kind)) else [size, size]


def _equal_widths(config_class: type[SiglipConfig], towers: dict[str, dict[str, Any]]) -> None:
    """SigLIP has no projections: what its text tower ends with is as wide as the image tower."""
    if towers["vision_config"].get("vision_use_head") is False:
        raise ArgumentError(
            "vision_config.vision_use_head is false, but this head makes the image's features",
            "vision_config.vision_use_head",
        )
    width = towers["vision_config"].get("hidden_size", config_class.sub_configs["vision_config"]().hidden_size)
    if towers["text_config"].setdefault("projection_size", width) != width:
        raise ArgumentError(
            f"text_config.projection_size is {towers['text_config']['projection_size']}, but the image tower gives "
            f"{width} features (vision_config.hidden_size): leave it out",
            "text_config.projection_size",
        )


def text_fields(config_class: type[PreTrainedConfig], given: dict[str, Any], text: Any) -> dict[str, Any]:
    """Fields of a text tower with random weights: the given ones, and where one is missing the tokenizer's.

    Args:
        config_class: The tower's configuration class.
        given: Fields of it.
        text: Facts of the tokenizer, a mapping or an object with ``vocab_size``, ``max_length`` (tokens of a text at most),
            ``bos_token_id``, ``eos_token_id`` and ``pad_token_id``; or None.

    Raises:
        ArgumentError: The tower cannot take the tokenizer's texts.
    """
    fields, known = dict(given), known_fields(config_class)
    if text is None:
        return fields
    for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"):
        if name in known and (value := fact(text, name)) is not None:
            fields.setdefault(name, value)
    _require_vocabulary(fields.get("vocab_size"), text)
    family = family_of_type(config_class.model_type)
    if family.pooled_at_end:
        _require_end(fields.get("eos_token_id"), text)
    if "max_position_embeddings" in known and (length := fact(text, "max_length")) is not None:
        extra = 0
        if family.positions_after_padding:
            extra = fields.get("pad_token_id", config_class().pad_token_id) + 1
        if fields.setdefault("max_position_embeddings", length + extra) < length + extra:
            raise ArgumentError(
                f"max_position_embeddings is {fields['max_position_embeddings']}, but texts have up to {length} tokens: give at "
                f"least {length + extra}, or lower text.max_length",
                "max_position_embeddings",
            )
    return fields


def longest_text(config: PreTrainedConfig) -> int | None:
    """Tokens of a text at most that a text tower takes; None where its configuration does not say."""
    family, positions = family_of_type(config.model_type), getattr(config, "max_position_embeddings", None)
    extra = (config.pad_token_id or 0) + 1 if family.positions_after_padding else 0
    return None if positions is None else positions - extra


def adapt_to_tokenizer(config: PreTrainedConfig, text: Any, name: str) -> None:
    """Fits the configuration of a text tower with released weights to the tokenizer that is used with it.

    Its own tokenizer changes nothing. One with more entries gets so many embeddings (those of the weights then do not match,
    see ``min_matched`` of :class:`~.config.Backbone`), one with another end token is pooled there.

    Raises:
        ArgumentError: Its texts are longer than the tower can take.
    """
    family = family_of_type(config.model_type)
    longest, length = longest_text(config), fact(text, "max_length")
    if longest is not None and length is not None and length > longest:
        raise ArgumentError(f"text.max_length is {length}, but {name} takes at most {longest} tokens: lower it")
    if (entries := fact(text, "vocab_size")) is not None and entries > config.vocab_size:
        config.vocab_size = entries
        for token in ("bos_token_id", "pad_token_id"):
            setattr(config, token, fact(text, token))
    if not family.pooled_at_end or (end := fact(text, "eos_token_id")) is None:
        return
    if config.eos_token_id == _LEGACY_END and end == (entries or config.vocab_size) - 1:
        return  # pooled at the highest id, which is the end
    if config.eos_token_id != end:
        _require_end(end, text)
        config.eos_token_id = end


def _require_vocabulary(entries: int | None, text: Any) -> None:
    if entries is not None and entries < (fact(text, "vocab_size") or 0):
        raise ArgumentError(
            f"vocab_size is {entries}, but the tokenizer has {fact(text, 'vocab_size')} entries: leave it out",
            "vocab_size",
        )


def _require_end(end: int | None, text: Any) -> None:
    """CLIP's text tower takes what it says of a text at the first end token."""
    if end is None or fact(text, "eos_token_id") is None:
        raise ArgumentError("CLIP's text tower needs a tokenizer with an end token (eos_token), and this has none")
    if end != fact(text, "eos_token_id"):
        raise ArgumentError(
            f"eos_token_id is {end}, but the tokenizer ends texts with {fact(text, 'eos_token_id')}: leave it out",
            "eos_token_id",
        )
    if end == _LEGACY_END:
        raise ArgumentError(
            f"the tokenizer's end token has the id {_LEGACY_END}, which transformers takes for the mark of CLIP's "
            "first checkpoints and then reads a text at its highest id instead: give the end token another id, such as the last"
        )


def pair_config(
    vision: PreTrainedConfig, text: PreTrainedConfig, fields: dict[str, Any], image_size: int
) -> VisionTextDualEncoderConfig:
    """Configuration of a pair of any image tower and any text tower that transformers can put together.

    Raises:
        ArgumentError: It cannot; says which of the two towers is in the way, and which ones would do.
    """
    size = getattr(vision, "image_size", None) or (getattr(vision, "model_args", None) or {}).get(
        "img_size", image_size
    )
    height, width = (size, size) if isinstance(size, int) else size
    channels = getattr(vision, "num_channels", 3)
    with under("vision"):
        _settle_width(vision, {"pixel_values": torch.zeros(1, channels, height, width)}, _IMAGE_TOWERS)
    tokens = {"input_ids": torch.zeros(1, 3, dtype=torch.long), "token_type_ids": None, "position_ids": None}
    with under("text"):
        _settle_width(text, {**tokens, "attention_mask": None}, _TEXT_TOWERS)
    return VisionTextDualEncoderConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), **fields)


def _settle_width(config: PreTrainedConfig, inputs: dict[str, Any], fitting: str) -> None:
    """Notes in the configuration, where it has no such field, how wide the tower's pooled output is.

    ``VisionTextDualEncoderModel`` reads ``hidden_size`` and projects the second of the tower's outputs.
    """
    name = getattr(config, "architecture", None) or config.model_type
    problem = f"{name!r} cannot be one of two towers"
    if not type(config).__module__.startswith("transformers."):
        raise ArgumentError(f"{problem}: transformers alone could not load it; take {fitting}")
    if type(config) not in MODEL_MAPPING:
        raise ArgumentError(f"{problem}: transformers' AutoModel does not build it; take {fitting}")
    try:
        outputs = _try_on(config, inputs)
    except (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError, IndexError) as error:
        raise ArgumentError(f"{problem} ({error}); take {fitting}") from error
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is None or outputs[1] is not pooled:
        raise ArgumentError(f"{problem}: it gives no pooled output (pooler_output) to project; take {fitting}")
    if pooled.ndim != 2:
        shape = ", ".join(map(str, ("N", *pooled.shape[1:])))
        raise ArgumentError(
            f"{problem}: its pooled output has the shape ({shape}), not one vector an image; take {fitting}"
        )
    if not hasattr(config, "hidden_size"):
        config.hidden_size = pooled.shape[1]
    if config.hidden_size != pooled.shape[1]:
        raise ArgumentError(
            f"{problem}: its pooled output has {pooled.shape[1]} features, not hidden_size = {config.hidden_size}; take {fitting}"
        )


@torch.no_grad()
def _try_on(config: PreTrainedConfig, inputs: dict[str, Any]):
    """Outputs of a tower as ``VisionTextDualEncoderModel`` calls it: without memory for weights, where it runs so."""
    inputs |= {"output_attentions": None, "output_hidden_states": None, "return_dict": True}
    failure = None
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                model = AutoModel.from_config(config).eval()
            there = {name: value.to(device) if hasattr(value, "to") else value for name, value in inputs.items()}
            return model(**there)
        except (NotImplementedError, RuntimeError) as error:
            failure = error
    raise failure


def refuse_unknown(config_class: type[PreTrainedConfig], given: dict[str, Any]) -> None:
    """Refuses names that a configuration does not have.

    Raises:
        ArgumentError: With the nearest name that it has.
    """
    known = known_fields(config_class)
    for name in given:
        if name not in known and name != "model_type":
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"{config_class.__name__} has no such field"
            raise ArgumentError(f"{name}: unknown key; {hint}", name)


def fact(text: Any, name: str) -> Any:
    """A fact of the tokenizer, from a mapping or an object."""
    return text.get(name) if isinstance(text, dict) else getattr(text, name, None)
