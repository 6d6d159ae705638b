"""Facts of architectures, an entry each: tokens and features, what is built, how layers are found, what is published.

Where no entry says otherwise, an architecture is as most of transformers' vision models are (:class:`Family`'s defaults). To add
one is to add an entry to ``_ENTRIES``, or for an architecture of a plugin's own to call :func:`register_family`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError
from . import pixel_sequence, timm_models, vit_mae
from .clip_initialization import initialize_towers
from .config import PAIR, TIMM
from .two_towers import image_features, is_two_towers


def _nothing(*_: Any) -> None:
    """Leaves everything as it is."""


def _width(encoder: PreTrainedModel) -> int | None:
    sizes = getattr(encoder.config, "hidden_sizes", None) or [None]
    return getattr(encoder.config, "hidden_size", sizes[-1])


def _patch(encoder: PreTrainedModel) -> Any:
    return getattr(encoder.config, "patch_size", None) if stages(encoder.config) is None else None


@dataclass(frozen=True)
class Family:
    """What is known of some architectures.

    Attributes:
        model_types: transformers' names of them.

        class_tokens: Tokens of the last hidden state before those of registers (``num_register_tokens``) and patches.
        pools_patches: The features are the mean of the patches' tokens, as there is nothing else.
        as_vit: Made as transformers' ViT is, of ``embeddings``, ``layers`` and ``layernorm``, so that it can be run in parts.
        arguments: (encoder, pixel_values) to further arguments of its call.
        features: (encoder, pixel_values) to features (N, D), where they are more than a part of its outputs.
        expression: The same as one writes it with plain transformers, where it is not the usual.
        always_pooled: Its outputs have a ``pooler_output``; otherwise it is looked for.
        width: (encoder) to the width D of the features; None where it does not say.
        patch: (encoder) to the side, or sides, of the patches in pixels; None for convolutional and hierarchical encoders.
        image_size: (encoder) to the side, or sides, of the images that its position embeddings were made for; None without.
        channels_last: (encoder) to whether maps in the last hidden state are (N, h, w, D).
        size_hint: What makes it take images of other sizes, for the end of an error.

        settle_fields: (fields, image size) fills in or refuses fields of its configuration.
        make_config: (configuration class, fields, image sizes) to the configuration, where more than the fields is needed.
        accept_sizes: (released configuration, image sizes) changes what it has to, to take them.
        from_processor: (configuration, function that reads the image processor) fills in what only that knows.
        configure: (configuration) sets what an encoder needs, before it is built or when it has been loaded.
        initialize: (encoder, configuration) draws its first weights where transformers draws others than the authors.
        recomputed: (encoder) to the modules that compute their activations again in the backward pass when that is asked for.
        align: (model with released weights) brings them into the form in which it is trained here.

        layers: Regular expression that finds the layer in a parameter's name, with groups ``outer`` and ``stage``, and
            ``layer`` where the stages have several; None: by the usual names (see :mod:`.layers`).
        layer_distances: (module) to the layers of its parameters, by name, as :func:`~.layers.layer_distances` has them.
        kinds: Kinds of parameters that are no weights of a layer, with regular expressions of parts of their names, beside the
            usual ones (see :func:`~.layers.named_kinds`).
        attention: Regular expression of the names of the attention's linear layers; None: by the usual names (see :mod:`.lora`).

        pads_texts: Texts are padded to their full length, and no mask says so.
        positions_after_padding: The first token of a text has the position ``pad_token_id + 1``, as in fairseq: so many entries
            are never used.
        pooled_at_end: A text's features are those at its first end token.

        published: (encoder) to the model that is published, over the same parameters.
        weight_prefix: What the names of the weights begin with in the module, and not in a published file.
        image_processor: Class of transformers that prepares its images.
        processor_in_config: config.json says how images are prepared, for timm too, and there is no preprocessor_config.json.
        processor_settings: (configuration) to settings of it that go before those of the training.
        joint_processor: Class of transformers that prepares images and texts.
        image_tower: Class of transformers that loads the image tower alone; None without one.
        pools_image_tower: That class's ``pooler_output`` is the feature, rather than ``image_embeds``.
    """

    model_types: tuple[str, ...] = ()

    class_tokens: int = 1
    pools_patches: bool = False
    as_vit: bool = False
    arguments: Callable[[PreTrainedModel, Tensor], dict[str, Any]] = lambda encoder, pixel_values: {}
    features: Callable[[PreTrainedModel, Tensor], Tensor] | None = None
    expression: str | None = None
    always_pooled: bool = False
    width: Callable[[PreTrainedModel], int | None] = _width
    patch: Callable[[PreTrainedModel], Any] = _patch
    image_size: Callable[[PreTrainedModel], Any] = lambda encoder: getattr(encoder.config, "image_size", None)
    channels_last: Callable[[PreTrainedModel], bool] = lambda encoder: False
    size_hint: str = ""

    settle_fields: Callable[[dict[str, Any], int], None] = _nothing
    make_config: Callable[[type[PreTrainedConfig], dict[str, Any], list[int]], PreTrainedConfig] | None = None
    accept_sizes: Callable[[PreTrainedConfig, list[int]], None] = _nothing
    from_processor: Callable[[PreTrainedConfig, Callable[[], Any]], None] = _nothing
    configure: Callable[[PreTrainedConfig], None] = _nothing
    initialize: Callable[[PreTrainedModel, PreTrainedConfig], None] = _nothing
    recomputed: Callable[[PreTrainedModel], list[nn.Module]] = lambda encoder: [encoder]
    align: Callable[[PreTrainedModel], None] = _nothing

    layers: str | None = None
    layer_distances: Callable[[nn.Module], dict[str, int]] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    attention: str | None = None

    pads_texts: bool = False
    positions_after_padding: bool = False
    pooled_at_end: bool = False

    published: Callable[[PreTrainedModel], PreTrainedModel] = lambda encoder: encoder
    weight_prefix: str = ""
    image_processor: str = "BitImageProcessor"  # that of CLIP, under another name
    processor_in_config: bool = False
    processor_settings: Callable[[PreTrainedConfig], dict[str, Any]] = lambda config: {}
    joint_processor: str = "VisionTextDualEncoderProcessor"
    image_tower: str | None = None
    pools_image_tower: bool = False


def _width_of_towers(encoder: PreTrainedModel) -> int:
    return getattr(encoder.config, "projection_dim", None) or encoder.config.vision_config.hidden_size


def _depth_gives_sizes(fields: dict[str, Any], image_size: int) -> None:
    if given := sorted({"depths", "hidden_sizes", "layer_type"} & set(fields)):
        raise ArgumentError(
            f"small_resnet takes its {', '.join(given)} from depth (18, 34 or 50): leave them out, or use model_type: resnet "
            "for other sizes"
        )


def _initialize_views(encoder: PreTrainedModel, config: PreTrainedConfig) -> None:
    """Of color views that are ViTMAEs; the others have been drawn when they were built."""
    for view in encoder.encoders:
        if family_of(view) is _VIT_MAE:
            vit_mae.initialize_mae_embeddings(view)


_USUAL = Family()
_TWO_TOWERS = Family(
    features=image_features,
    expression="model.get_image_features(pixel_values=pixel_values).pooler_output",
    width=_width_of_towers,
    initialize=lambda encoder, config: initialize_towers(encoder),
    image_processor="CLIPImageProcessor",
)
_VIT_MAE = Family(
    ("vit_mae",),
    as_vit=True,
    arguments=vit_mae.in_order,
    configure=vit_mae.hide_nothing,
    initialize=lambda encoder, config: vit_mae.initialize_mae_embeddings(encoder),
    published=vit_mae.vit_of_mae,
)
_ENTRIES = (
    Family(("vit",), as_vit=True),
    _VIT_MAE,
    Family(("ijepa",), class_tokens=0, pools_patches=True, as_vit=True),
    Family(
        ("imagegpt",),
        class_tokens=0,
        pools_patches=True,
        features=pixel_sequence.pixel_features,
        expression=pixel_sequence.EXPRESSION,
        settle_fields=pixel_sequence.a_token_each_pixel,
        from_processor=pixel_sequence.take_colors,
        initialize=pixel_sequence.train_without_start,
        align=pixel_sequence.move_start_to_end,
        image_processor="ImageGPTImageProcessor",
        processor_settings=pixel_sequence.token_processor_settings,
    ),
    Family(
        (TIMM,),
        always_pooled=True,
        width=timm_models.timm_width,
        patch=timm_models.timm_patch,
        image_size=timm_models.timm_image_size,
        channels_last=timm_models.timm_channels_last,
        size_hint=timm_models.SIZE_HINT,
        make_config=timm_models.timm_config,
        accept_sizes=timm_models.accept_sizes,
        initialize=timm_models.initialize_timm,
        layer_distances=timm_models.timm_distances,
        weight_prefix=timm_models.WEIGHT_PREFIX,
        image_processor="TimmWrapperImageProcessor",
        processor_in_config=True,
    ),
    Family(("small_resnet",), settle_fields=_depth_gives_sizes),
    Family(("colour_views",), initialize=_initialize_views),
    replace(
        _TWO_TOWERS,
        model_types=(PAIR,),  # which cannot do it as a whole, though its towers can
        recomputed=lambda encoder: [encoder.vision_model, encoder.text_model],
    ),
    replace(
        _TWO_TOWERS,
        model_types=("clip",),
        joint_processor="CLIPProcessor",
        image_tower="CLIPVisionModelWithProjection",
    ),
    replace(
        _TWO_TOWERS,
        model_types=("siglip",),
        pads_texts=True,
        joint_processor="SiglipProcessor",
        image_tower="SiglipVisionModel",
        pools_image_tower=True,
    ),
    replace(_TWO_TOWERS, model_types=("siglip2",), pads_texts=True),
    Family(("siglip_text_model", "siglip2_text_model"), pads_texts=True),
    # Of id 2 as the end see tower_configs.py.
    Family(("clip_text_model", "metaclip_2_text_model"), pooled_at_end=True),
    Family(
        ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm")
        + ("xlm-roberta", "xlm-roberta-xl", "xmod"),
        positions_after_padding=True,
    ),
)
_FAMILIES = {model_type: entry for entry in _ENTRIES for model_type in entry.model_types}


def register_family(family: Family) -> None:
    """Adds the facts of further architectures, or replaces those of known ones.

    Args:
        family: The entry; its ``model_types`` say of which.
    """
    _FAMILIES.update(dict.fromkeys(family.model_types, family))


def family_of_type(model_type: str | None) -> Family:
    """The facts of an architecture by transformers' name of it: a ``model_type``."""
    return _FAMILIES.get(model_type or "", _USUAL)


def family_of(model: nn.Module) -> Family:
    """The facts of a model's architecture; of models with an image and a text tower that have no entry, what is true of all."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return _FAMILIES.get(model_type) or (_TWO_TOWERS if is_two_towers(model) else _USUAL)


def stages(config: PreTrainedConfig) -> list[int] | None:
    """Layers in each stage of a hierarchical architecture (Swin, ConvNeXt, ResNet, PVT), by its ``depths``; None for others."""
    return getattr(config, "depths", None)


def model_types(**facts: Any) -> tuple[str, ...]:
    """The names of the architectures whose entry has these facts: ``model_types(as_vit=True)``."""
    return tuple(name for name, entry in _FAMILIES.items() if all(getattr(entry, k) == v for k, v in facts.items()))
