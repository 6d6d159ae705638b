"""The released weights that a run starts from, and what of them is trained."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from transformers import PreTrainedModel
from yaml import YAMLError

from ..encoders.lora import lora_facts
from ..encoders.weights import Part
from ..paths import local_path
from ..recipe.published import is_local, origin_on_hub, public_name


@dataclass(frozen=True)
class StartingPoint:
    """The released weights that an encoder starts from.

    Attributes:
        sentences: What was loaded, which towers are locked and where adapters are, as the run prints it.
        parts: What was loaded, for each tower or the encoder as a whole.
        locked: The towers that keep their released weights.
        loaded: Names of the encoder's tensors that were loaded.
        trainable_layers: How many of its last layers are trained; None: all of them.
    """

    sentences: tuple[str, ...]
    parts: tuple[Part, ...]
    locked: tuple[str, ...]
    loaded: frozenset[str] = frozenset()
    trainable_layers: int | None = None

    @property
    def text(self) -> str:
        """The sentences, one a line."""
        return "\n".join(self.sentences)

    def facts(self, encoder: PreTrainedModel) -> dict[str, Any]:
        """The same as JSON, without paths of this machine.

        Args:
            encoder: The method's.

        Returns:
            ``weights``: for each part its ``tower``, ``name``, ``on_hub``, ``revision``, ``tensors``, ``of_tensors`` and ``base_models``:
            the names on the Hub that it is or, as its own card says, was trained from; ``locked``; ``lora``, None without adapters;
            ``trainable_layers``, None where all are trained.
        """
        return {
            "weights": [_described(part) for part in self.parts],
            "locked": list(self.locked),
            "lora": lora_facts(encoder),
            "trainable_layers": self.trainable_layers,
        }


def _described(part: Part) -> dict[str, Any]:
    origin = origin_on_hub(part.name)
    on_hub = origin is not None or not is_local(part.name)
    found = asdict(part) | {"name": public_name(part.name), "on_hub": on_hub}
    if origin is not None:
        found["revision"] = origin[1]
    elif not on_hub:
        found["revision"] = None
    return found | {"base_models": [found["name"]] if on_hub else base_models_of(Path(local_path(part.name)))}


def base_models_of(folder: Path) -> list[str]:
    """The models of the Hub that weights in a folder were trained from, as far as the card beside them says so."""
    card = folder / "README.md"
    try:
        named = ModelCard.load(card, ignore_metadata_errors=True).data.get("base_model") if card.is_file() else None
    except (OSError, ValueError, YAMLError):
        return []
    return [named] if isinstance(named, str) else [name for name in named or [] if isinstance(name, str)]
