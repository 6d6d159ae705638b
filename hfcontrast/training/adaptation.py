"""How much of released weights is trained: towers that stay locked, LoRA, the last layers alone, and batch statistics that stay."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..encoders.config import TOWERS, Backbone
from ..encoders.layers import layer_distances
from ..encoders.lora import add_lora, describe
from ..encoders.two_towers import freeze_tower, is_two_towers
from ..encoders.weights import Loaded
from ..errors import RecipeError, under
from ..methods.base import Method


def adapt(method: Method, backbone: Backbone, loaded: Loaded | None) -> list[str]:
    """Locks towers, puts in adapters and freezes layers, as the recipe's ``backbone`` says.

    A locked tower (LiT: Zhai et al., 2022, arXiv:2111.07991) keeps its weights, drops nothing out and leaves batch statistics
    alone. With LoRA, released weights and batch statistics of the towers with adapters stay; adapters, heads, projections,
    temperature, and everything that starts at random are trained, and so is a tower that has no adapters and is not locked.

    Args:
        method: With the weights in its encoder; the teachers are to be copied again afterwards.
        backbone: The recipe's section.
        loaded: What was loaded; None for random weights.

    Returns:
        A sentence for each of them.

    Raises:
        RecipeError: There are no released weights to keep, or nothing would be left to train.
    """
    sentences = []
    if backbone.locked:
        sentences.append(_lock(method, backbone.locked, loaded))
    if backbone.lora is not None:
        sentences.append(_add_adapters(method, backbone, loaded))
    if backbone.trainable_layers is not None:
        sentences.append(_freeze_layers(method, backbone.trainable_layers, loaded))
    if backbone.freeze_batch_norm and (norms := _batch_norms(method.encoder)):
        method.keep_in_eval_mode(*(f"encoder.{name}" for name in norms))
        sentences.append(f"batch normalization ({len(norms)} layers) uses the released running statistics, which stay")
    return sentences


def _batch_norms(encoder: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in encoder.named_modules() if isinstance(module, _BatchNorm)}


def _freeze_layers(method: Method, count: int, loaded: Loaded | None) -> str:
    """Freezes all but the last layers; see :func:`~hfcontrast.encoders.layers.layer_distances`."""
    encoder = method.encoder
    if loaded is None:
        raise RecipeError("backbone.trainable_layers keeps released weights: name some, with pretrained")
    with under("backbone.trainable_layers"):
        distances = layer_distances(encoder)
    layers = max(distances.values()) - 1
    if count >= layers:
        raise RecipeError(
            f"backbone.trainable_layers is {count}, and the encoder has {layers} layers: leave it out to train all of them"
        )
    frozen = [
        (name, value)
        for name, value in encoder.named_parameters()
        if distances[name] > count and name in loaded.names and value.requires_grad
    ]
    for _, parameter in frozen:
        parameter.requires_grad_(False)
    standing = {name.rpartition(".")[0] for name, _ in frozen}
    method.keep_in_eval_mode(*(f"encoder.{name}" for name in _batch_norms(encoder) if name in standing))
    trained = sum(value.numel() for value in encoder.parameters() if value.requires_grad)
    return f"the last {count} of {layers} layers are trained, {trained:,} parameters of the encoder; the layers below keep their weights"


def _lock(method: Method, locked: Sequence[str], loaded: Loaded | None) -> str:
    if not is_two_towers(method.encoder):
        raise RecipeError(
            "backbone.locked is for models with an image and a text tower: of an encoder of images alone nothing but the heads "
            "would be trained; leave it out, or take backbone.lora"
        )
    if set(locked) >= set(TOWERS):
        raise RecipeError(
            "backbone.locked: with both towers locked, nothing but projections would be trained: lock one"
        )
    still = []
    for tower in locked:
        if loaded is None or not loaded.has_weights(tower):
            raise RecipeError(
                f"backbone.locked: the {tower} tower has random weights, which are of no use unless they are trained: name pretrained ones"
            )
        still += freeze_tower(method.encoder, tower, loaded.names)
        method.keep_in_eval_mode(f"encoder.{tower}_model")
    but = f", but {', '.join(still[:3])}{' ...' if len(still) > 3 else ''}, which start at random" if still else ""
    return f"the {locked[0]} tower is locked{but}"


def _add_adapters(method: Method, backbone: Backbone, loaded: Loaded | None) -> str:
    encoder, locked = method.encoder, backbone.locked or []
    if loaded is None:
        raise RecipeError("backbone.lora changes released weights a little: name some, with pretrained")
    settings = {"r": 16, **backbone.lora.settings()}
    towers = settings.pop("towers", None)
    if is_two_towers(encoder):
        if both := sorted(set(towers or ()) & set(locked)):
            raise RecipeError(f"backbone.lora.towers and backbone.locked both name {both[0]}: keep one of them")
        towers = towers or [tower for tower in TOWERS if tower not in locked and loaded.has_weights(tower)]
        for tower in towers:
            if not loaded.has_weights(tower):
                raise RecipeError(f"backbone.lora.towers: the {tower} tower has random weights: train all of it")
    elif towers:
        raise RecipeError(f"backbone.lora.towers is {towers}, but the encoder is of images alone: leave it out")
    single = loaded.sources.get("")
    with under("backbone.lora"):
        layers = add_lora(
            encoder, **settings, towers=towers, loaded=loaded.names, base=single, revision=backbone.revision
        )
    parts = tuple(f"{tower}_model." for tower in towers) if is_two_towers(encoder) else ("",)
    norms = [name for name in _batch_norms(encoder) if name.startswith(parts)]
    method.keep_in_eval_mode(*(f"encoder.{name}" for name in norms))
    return describe(encoder, settings["r"], layers)
