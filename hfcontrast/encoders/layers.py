"""Facts for optimizers: an encoder's layers in order, and the parameters that are not weights of a layer.

A parameter's distance from the top is 0 above the last layer (final norms, heads), 1 in the last layer, L in the first of L layers
and L + 1 below it (patch embedding, positions, class token): the groups of BEiT's layer-wise decay (Bao et al., 2021, arXiv:2106.08254;
microsoft/unilm, beit/optim_factory.py), which MAE, SimMIM and DINOv2 share. timm's models say their groups themselves; an
architecture with other names says them in :mod:`.families`.
"""

import re
from collections.abc import Iterable

from torch import nn

from ..errors import ArgumentError
from .families import family_of

# Kinds of parameters that some authors do not decay, beside norms and biases: parts of their names, in transformers and timm.
_KINDS = {
    "class_token": r"cls_token|class_token|class_embedding|dist_token|distillation_token",
    "register_tokens": r"reg_token|register_tokens|storage_tokens",
    "mask_token": r"\w*mask_token",
    "positions": r"(absolute_)?pos_embed(ding)?|position(al)?_embeddings?|embed_positions|wpe",
    "relative_positions": r"relative_position\w*|relative_attention_bias|rel_pos\w*|continuous_position_bias\w*|cpb_mlp",
    "probe": r"probe|latent",
}
_PATCH_EMBEDDING = r"patch_embed(s|ding|dings)?"
# Layers of transformers' encoders: stages of layers (encoder.stages.1.layers.0), or layers alone (encoder.layer.3, h.3).
_STAGED = re.compile(
    r"(?:^|\.)(?P<outer>stages|layers|blocks?)\.(?P<stage>\d+)\.(?:(?:layers|blocks?)\.)?(?P<layer>\d+)\."
)
_PLAIN = re.compile(r"(?:^|\.)(?P<outer>layers?|blocks?|stages|h)\.(?P<stage>\d+)\.")
_WITHIN = re.compile(r"(?:^|(?<=\.))(encoder|model|transformer|trunk)\.$")

KINDS = (*_KINDS, "embeddings")


def named_kinds(model: nn.Module) -> dict[str, str]:
    """The parameters that are not weights of a layer: name -> kind.

    Kinds are ``class_token`` (and distillation token), ``register_tokens``, ``mask_token``, ``positions``, ``relative_positions`` (bias
    tables and what makes them), ``probe`` (the query of attention pooling), and ``embeddings`` (tables that are looked up, of words).
    """
    tables = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    patterns = list(_KINDS.items())
    for family in map(family_of, model.modules()):
        patterns += family.kinds.items()
    found = {}
    for name, _ in model.named_parameters():
        kind = next((kind for kind, pattern in patterns if _has_part(name, pattern)), None)
        if kind or name in tables:
            found[name] = kind or "embeddings"
    return found


def is_patch_embedding(name: str) -> bool:
    """Whether a parameter of this name is part of a patch embedding."""
    return _has_part(name, _PATCH_EMBEDDING)


def _has_part(name: str, pattern: str) -> bool:
    return re.search(rf"(?:^|\.)(?:{pattern})(?:\.|$)", name) is not None


def layer_distances(encoder: nn.Module) -> dict[str, int]:
    """How many layers each parameter is below the top of its encoder, of two towers each by itself: name -> 0, 1, ...

    Raises:
        ArgumentError: The encoder's layers are not known.
    """
    names = [name for name, _ in encoder.named_parameters()]
    distances: dict[str, int] = {}
    for path, module in encoder.named_modules():
        prefix = f"{path}." if path else ""
        family = family_of(module)
        if family.layer_distances is not None:
            found = family.layer_distances(module)
        elif family.layers is not None:
            found = _by_names([name for name, _ in module.named_parameters()], [re.compile(family.layers)])
        else:
            continue
        distances = {prefix + name: distance for name, distance in found.items()} | distances
    rest = [name for name in names if name not in distances]
    if rest:
        distances |= _by_names(rest, [_STAGED, _PLAIN])
    if not any(distances.values()):
        kind = getattr(getattr(encoder, "config", None), "model_type", type(encoder).__name__)
        raise ArgumentError(
            f"the layers of encoder '{kind}' are not known: leave it out, or take an architecture whose layers are numbered, as "
            "those of timm and of transformers' vision models are"
        )
    return {name: distances[name] for name in names}


def _by_names(names: Iterable[str], patterns: Iterable[re.Pattern]) -> dict[str, int]:
    """By the numbers in the names; what has none is below the layers or above, as it comes before or after them."""
    towers: dict[str, list[tuple[str, tuple[int, ...] | None]]] = {}
    places = {name: _place(name, patterns) for name in names}
    roots = sorted({place[0] for place in places.values() if place}, key=len, reverse=True)
    distances = {}
    for name, place in places.items():
        root = place[0] if place else next((root for root in roots if name.startswith(root)), None)
        if root is None:
            distances[name] = 0  # beside the towers: projections, temperatures
        else:
            towers.setdefault(root, []).append((name, place[1] if place else None))
    for members in towers.values():
        distances |= _distances_of_tower(members)
    return distances


def _place(name: str, patterns: Iterable[re.Pattern]) -> tuple[str, tuple[int, ...]] | None:
    """The module that the layers of a parameter's encoder are part of, and the layer's number, or its stage's and its own."""
    match = next((match for pattern in patterns if (match := pattern.search(name))), None)
    if match is None:
        return None
    number = tuple(int(place) for place in (match["stage"], match.groupdict().get("layer")) if place is not None)
    root = name[: match.start("outer")]
    while (shorter := _WITHIN.sub("", root)) != root:
        root = shorter
    return root, number


def _distances_of_tower(members: list[tuple[str, tuple[int, ...] | None]]) -> dict[str, int]:
    """Of parameters in the order of the modules, with the numbers of their layers."""
    deepest = max(len(number) for _, number in members if number)
    layers = sorted({number for _, number in members if number and len(number) == deepest})
    depth = {number: place for place, number in enumerate(layers, start=1)}
    top, distances, reached = len(layers) + 1, {}, 0
    for name, number in members:
        if number is None:
            above = reached or _has_part(name, _KINDS["relative_positions"])  # a table that all layers share
            distances[name] = 0 if above else top
            continue
        if number in depth:
            reached = max(reached, depth[number])
        else:  # what joins two stages belongs to the first layer of its stage, or after the stage's layers to the last
            inside = [layer for layer in layers if layer[:1] == number]
            started = any(depth[layer] <= reached for layer in inside)
            number = (inside or layers)[-1 if started else 0]
        distances[name] = top - depth[number]
    return distances
