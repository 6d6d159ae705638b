"""From the outputs of an encoder to one feature vector an image: in which output the features are, and how they are read from it.

This file is self-contained: an exported encoder that is made of others carries it along.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

_CLASS_TOKENS = re.compile(r"(^|\.)(cls|class|dist|distillation)(_(tokens?|embeddings?))?$")
_HIDDEN = (".last_hidden_state", ".feature_maps[-1]", "[0]", "")
_POOLED = (".pooler_output", "[1]")


@dataclass(frozen=True)
class Pooling:
    """Which output of an encoder has its features, and how they are read from it.

    Attributes:
        kind: What the features are: a pooled output, the class token, or a mean over tokens or over the places of a map.
        output: The output, as it is written behind ``outputs``: ``.pooler_output``, ``.last_hidden_state``, ``.feature_maps[-1]`` of
            models that are backbones of others, ``[0]`` of tuples.
        first: Of a mean over tokens, the first of them: those of classes and registers come before.
        channels_last: Of a mean over a map, whether it is (N, h, w, D) rather than (N, D, h, w).
    """

    kind: Literal["pooled", "class_token", "token_mean", "map_mean"]
    output: str
    first: int = 0
    channels_last: bool = False

    @property
    def expression(self) -> str:
        """The features (N, D) in terms of ``outputs``, as one writes them with plain transformers."""
        tokens = f"[:, {self.first}:]" if self.first else ""
        read = {
            "pooled": ".flatten(1)",
            "class_token": "[:, 0]",
            "token_mean": f"{tokens}.mean(1)",
            "map_mean": f".mean({(1, 2) if self.channels_last else (2, 3)})",
        }
        return f"outputs{self.output}{read[self.kind]}"

    def __call__(self, outputs: Any) -> Tensor:
        """The features (N, D) of the outputs of a call."""
        found = output_named(outputs, self.output)
        if self.kind == "pooled":
            return found.flatten(1)
        if self.kind == "class_token":
            return found[:, 0]
        if self.kind == "token_mean":
            return found[:, self.first :].mean(dim=1)
        return found.mean(dim=(1, 2) if self.channels_last else (2, 3))


def find_pooling(
    outputs: Any,
    class_tokens: int,
    *,
    registers: int = 0,
    mean: bool = False,
    channels_last: bool = False,
    pooled_output: str | None = None,
) -> Pooling:
    """Finds where the features of an encoder are, from what one of its calls returned.

    The pooled output is taken where there is one; else a map is averaged over its places, and of tokens the class token is
    taken, or the mean where the architecture has none.

    Args:
        outputs: What the call returned: a ``ModelOutput``, a tuple or a tensor.
        class_tokens: Tokens of classes that the architecture has before all others.
        registers: Tokens of registers between these and the patches.
        mean: Whether the mean over the patches is taken, whatever else there is.
        channels_last: Whether its maps are (N, h, w, D).
        pooled_output: Which output is the pooled one, where it is not the usual.

    Raises:
        ValueError: There are no features in it.
    """
    if hasattr(outputs, "encoder_last_hidden_state"):
        raise ValueError("its last hidden state is that of a decoder, not of the image")
    if not mean and (name := _first_of(outputs, _POOLED if pooled_output is None else (pooled_output,))):
        pooled = output_named(outputs, name)
        if pooled.ndim != 4 or math.prod(pooled.shape[2:]) == 1:
            return Pooling("pooled", name)
        return Pooling("map_mean", name)
    name = hidden_output(outputs)
    hidden = output_named(outputs, name)
    if hidden.ndim == 4:
        return Pooling("map_mean", name, channels_last=channels_last)
    if hidden.ndim == 2:
        return Pooling("pooled", name)
    if hidden.ndim != 3:
        raise ValueError(f"its outputs have the shape {tuple(hidden.shape)}, neither tokens nor a map of each image")
    if class_tokens and not mean:
        return Pooling("class_token", name)
    return Pooling("token_mean", name, first=class_tokens + registers)


def hidden_output(outputs: Any) -> str:
    """Which output has the last tokens or the last map, as :attr:`Pooling.output` names it.

    Raises:
        ValueError: None has.
    """
    if (name := _first_of(outputs, _HIDDEN)) is None:
        raise ValueError("its outputs have no last_hidden_state, feature_maps or pooler_output that is a tensor")
    return name


def count_class_tokens(encoder: nn.Module) -> int:
    """How many tokens of classes (and of distillation) an architecture has, by the names of its parameters."""
    found = [value for name, value in encoder.named_parameters() if _CLASS_TOKENS.search(name)]
    return sum(value.shape[-2] if value.ndim == 3 else 1 for value in found)


def output_named(outputs: Any, name: str) -> Any:
    """The output that :attr:`Pooling.output` names; None where there is none."""
    if not name:
        return outputs
    if name.startswith("["):
        return outputs[int(name[1:-1])]
    attribute, _, last = name[1:].partition("[")
    value = getattr(outputs, attribute, None)
    return value[-1] if last and value else value


def _first_of(outputs: Any, names: tuple[str, ...]) -> str | None:
    """The first of these outputs that is there as a tensor; one by its number of plain tuples only, the second where it is (N, D)."""
    for name in names:
        if name.startswith("["):
            place = int(name[1:-1])
            if type(outputs) not in (tuple, list) or len(outputs) <= place:
                continue
            if place and getattr(outputs[place], "ndim", 0) != 2:
                continue
        if isinstance(output_named(outputs, name), Tensor):
            return name
    return None
