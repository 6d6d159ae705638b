"""What is known of an architecture: the fields of an entry of :mod:`.families`, with what is true where an entry says nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


def stages(config: PreTrainedConfig) -> list[int] | None:
    """Layers in each stage of a hierarchical architecture (Swin, ConvNeXt, ResNet, PVT), by its ``depths``; None for others."""
    return getattr(config, "depths", None)


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

        refusal: Why it is not an encoder of images: the rest of a sentence that begins with its name.

        class_tokens: Tokens of the last hidden state before those of registers (``num_register_tokens``) and patches; None: as many
            as parameters with the usual names hold (see :func:`~.pooling.count_class_tokens`).
        pools_patches: The features are the mean of the patches' tokens, as there is nothing else.
        pooled_output: The output that has the features, as :class:`~.pooling.Pooling` names it, where it is not the usual.
        keeps_pooler: Its pooler is the mean and the normalization of its authors, which is trained, and not one of a class token.
        unused: Regular expression that finds, in a parameter's name, modules that the features do not come from: they are frozen.
        as_vit: Made as transformers' ViT is, of ``embeddings``, ``layers`` and ``layernorm``, so that it can be run in parts.
        arguments: (encoder, pixel_values) to further arguments of its call.
        features: (encoder, pixel_values) to features (N, D), where they are more than a part of its outputs.
        expression: The same as one writes it with plain transformers, in terms of ``outputs`` or ``model``, and ``pixel_values``.
        classified: (configuration) to what transformers' image classifier reads: "class_token", "token_mean" or "both"; None: the features, or
            the class token where the features are the mean of the patches.
        always_pooled: Ignored, as outputs are looked at; until version 0.3.
        width: (encoder) to the width D of the features; None where its configuration does not say: one image is encoded then.
        patch: (encoder) to the side, or sides, of the patches in pixels; None for convolutional and hierarchical encoders.
        channels: (encoder) to how many channels its images have.
        image_size: (encoder) to the side, or sides, of the images that its position embeddings were made for; None without.
        channels_last: (encoder) to whether maps in the last hidden state are (N, h, w, D).
        size_problem: (encoder, side of images in pixels) to what is wrong with images of this size, the rest of a sentence; None: nothing
            that is known.
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
        kinds: Kinds of parameters that are not weights of a layer, with regular expressions of parts of their names, beside the
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

    refusal: str | None = None

    class_tokens: int | None = None
    pools_patches: bool = False
    pooled_output: str | None = None
    keeps_pooler: bool = False
    unused: str | None = None
    as_vit: bool = False
    arguments: Callable[[PreTrainedModel, Tensor], dict[str, Any]] = lambda encoder, pixel_values: {}
    features: Callable[[PreTrainedModel, Tensor], Tensor] | None = None
    expression: str | None = None
    classified: Callable[[PreTrainedConfig], str | None] = _nothing
    always_pooled: bool = False
    width: Callable[[PreTrainedModel], int | None] = _width
    patch: Callable[[PreTrainedModel], Any] = _patch
    channels: Callable[[PreTrainedModel], int] = lambda encoder: getattr(encoder.config, "num_channels", None) or 3
    image_size: Callable[[PreTrainedModel], Any] = lambda encoder: getattr(encoder.config, "image_size", None)
    channels_last: Callable[[PreTrainedModel], bool] = lambda encoder: False
    size_problem: Callable[[PreTrainedModel, int], str | None] = _nothing
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
