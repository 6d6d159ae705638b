"""The method of a recipe: built for the data, with its first weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedModel

from ..data.sources import Rows
from ..encoders.build import build_encoder
from ..encoders.channels import COLORS, set_channels
from ..encoders.features import check_image_size
from ..encoders.model_config import backbone_config
from ..encoders.pretrained import read_pretrained
from ..encoders.suitability import image_tower, require_encoder, require_features, takes_a_blank_image
from ..encoders.tower_configs import is_two_towers_config
from ..encoders.weights import Loaded, load_weights
from ..errors import ArgumentError, RecipeError, under
from ..methods.base import Method
from ..methods.contract.arguments import needs_captions
from ..methods.contract.construction import check_built
from ..methods.contract.modules import copy_teachers
from ..methods.registry import get_method
from ..nn.random import generator_kept
from ..recipe import Recipe
from ..view import View
from .adaptation import adapt
from .starting_point import StartingPoint

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def known_of_data(
    recipe: Recipe, method_class: type[Method], rows: Rows, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """What the method's configuration declares to need of the data (see ``MethodConfig``).

    Raises:
        RecipeError: The recipe contradicts the data.
    """
    fields = method_class.config_class.__dataclass_fields__
    images = None if rows.streaming else rows.num_rows  # the rows of a stream have no places of their own
    given = recipe.method.options.get("num_images")
    if "num_images" in fields and given not in (None, images):
        raise RecipeError(
            f"method.num_images is {given}, but {rows.description} has {images or 'an unknown number of'} images: leave it "
            "out, the data says it"
        )
    known = {"num_images": images, "image_mean": list(mean), "image_std": list(std)}
    return {name: value for name, value in known.items() if name in fields}


def check_backbone_builds(recipe: Recipe) -> None:
    """Builds a backbone of random weights, without memory for them, to see whether it can be built and gives features of the views;
    one that needs more than the recipe is not looked at.

    Raises:
        RecipeError: It cannot.
    """
    method_class, views = get_method(recipe.method.name), recipe.resolved_views()
    if recipe.released_weights or needs_captions(method_class):
        return
    config = _encoder_config(recipe, views, method_class)
    with under("backbone"), generator_kept():
        try:
            with torch.device("meta"):
                encoder = build_encoder(config)
        except ArgumentError:  # it may be the device that this architecture cannot be built on
            encoder = build_encoder(config)
        require_features(encoder, [view.size for view in _own_views(method_class, views)])
    if next(encoder.parameters()).is_meta and takes_a_blank_image(encoder):
        _check_sizes(encoder, recipe, _own_views(method_class, views))


def _encoder_config(
    recipe: Recipe, views: tuple[View, ...], method_class: type[Method], text: Any = None
) -> PreTrainedConfig:
    """Configuration of the recipe's encoder, of an architecture that the method can train.

    Raises:
        RecipeError: There is none.
    """
    with under("backbone"):
        sizes = [view.size for view in _own_views(method_class, views)]
        config = backbone_config(recipe.backbone, [*sizes, published_size(recipe, views)], text)
        require_encoder(config)
        if recipe.data.other_channels:
            set_channels(config, recipe.data.channels)
    if not needs_captions(method_class) and is_two_towers_config(config):
        raise RecipeError(
            f"method '{recipe.method.name}' learns from images alone, and backbone '{config.model_type}' has a text tower too: "
            f"take the configuration of an image tower, such as {image_tower(config) or 'clip_vision_model'}, or another method"
        )
    return config


def _own_views(method_class: type[Method], views: tuple[View, ...]) -> tuple[View, ...]:
    """The views that the method's own encoder gets, and not one that it has beside it."""
    return tuple(view for view in views if view.name not in method_class.view_encoders)


def _check_sizes(encoder: PreTrainedModel, recipe: Recipe, views: tuple[View, ...]) -> None:
    """Encodes an image of the size of each view, and one as the published processor makes it.

    Raises:
        RecipeError: The encoder cannot take them.
    """
    channels = recipe.data.channels or COLORS
    for view in views:
        check_image_size(encoder, view.size, f"view '{view.name}'", channels)
    check_image_size(encoder, published_size(recipe, views), "publish.image_size", channels)


def build_method(
    recipe: Recipe, views: tuple[View, ...], known: dict[str, Any], text: Any = None
) -> tuple[Method, StartingPoint | None]:
    """The method with its first weights, and the released weights that it starts from; None for random ones.

    Args:
        recipe: The recipe.
        views: The views in use.
        known: Settings that the data gives where the recipe does not.
        text: Facts of the tokenizer (see :func:`~hfcontrast.encoders.model_config.backbone_config`), for a method that learns from texts.

    Raises:
        RecipeError: The method refuses its settings or the encoder, or the encoder a size or the weights.
    """
    method_class, channels = get_method(recipe.method.name), recipe.data.channels or COLORS
    options = recipe.method.options
    options |= {name: value for name, value in known.items() if options.get(name) is None}
    config = _encoder_config(recipe, views, method_class, text)
    try:
        method = method_class(method_class.config_class(backbone_config=config, **options))
    except ArgumentError as error:  # of the encoder that the method builds
        raise error.under("backbone") from error.__cause__
    except (ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "negative dimension" not in str(error):
            raise  # a mistake in its code, of which the traceback says more
        hint = ""
        if "num_images" in known and known["num_images"] is None:
            hint = (
                ". The images of a stream are not numbered: use data.streaming=false, or a method without a memory bank"
            )
        raise RecipeError(f"method '{recipe.method.name}' cannot be built: {error}{hint}") from error
    if views != method_class.views:
        method.views = views  # which saved methods have
    check_built(method)
    _check_sizes(method.encoder, recipe, _own_views(method_class, views))
    for view in views:
        if view.name in method.view_encoders:
            check_image_size(
                getattr(method, method.view_encoders[view.name]).model, view.size, f"view '{view.name}'", channels
            )
    with under("backbone"):
        loaded = load_weights(method.encoder, recipe.backbone)
    if loaded:
        method.after_loading(loaded.names)
    sentences = [loaded.sentence] if loaded else []
    sentences += adapt(method, recipe.backbone, loaded)
    if loaded:
        copy_teachers(method)
    return method.train(), _starting_point(recipe, method, loaded, sentences) if loaded else None


def _starting_point(recipe: Recipe, method: Method, loaded: Loaded, sentences: list[str]) -> StartingPoint:
    adapters = {name.replace(".base_layer.", "."): name for name, _ in method.encoder.named_parameters()}
    names = frozenset(adapters.get(name, name) for name in loaded.names)
    locked, layers = tuple(recipe.backbone.locked or ()), recipe.backbone.trainable_layers
    return StartingPoint(tuple(sentences), loaded.parts, locked, names, layers)


def published_size(recipe: Recipe, views: tuple[View, ...]) -> int:
    """Side of the images that the published processor makes, in pixels."""
    return recipe.publish.image_size or views[0].size


def color_statistics(recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that images are normalized by: the recipe's, the pretrained encoder's, or ImageNet's.

    Raises:
        RecipeError: The pretrained encoder's image processor cannot be read.
    """
    if recipe.data.mean is not None:
        return tuple(recipe.data.mean), tuple(recipe.data.std)
    if weights := recipe.backbone.weights_of("vision"):
        try:
            setting = f"backbone.{weights.argument}"
            processor = read_pretrained(AutoImageProcessor, weights.name, setting, weights.revision)
        except RecipeError:
            if (Path(weights.name) / "preprocessor_config.json").exists():
                raise  # it exists and cannot be read
            return IMAGENET_MEAN, IMAGENET_STD  # weights without a processor
        source = getattr(processor, "data_config", None) or {"mean": processor.image_mean, "std": processor.image_std}
        return tuple(source["mean"]), tuple(source["std"])
    return IMAGENET_MEAN, IMAGENET_STD
