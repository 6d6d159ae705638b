"""Writing the encoder so that plain transformers (and timm, where it is timm's) loads it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ..atomic import atomic_files
from ..encoders.families import family_of
from ..encoders.finite_weights import not_finite
from ..encoders.lora import lora_layers, merged_state_dict, save_adapter
from ..encoders.timm_models import replaced_layers
from ..errors import TrainingError
from ..methods.base import Method
from ..training.build import Training
from ..training.build_method import published_size
from .processor import build_processor, timm_settings
from .usage import identity_pooler, neutral_pooler

ADAPTER_FOLDER = "adapter"


def export_encoder(
    encoder: PreTrainedModel,
    processor: Any,
    folder: Path,
    timm_settings: dict[str, Any] | None = None,
    state_dict: dict[str, Tensor] | None = None,
) -> None:
    """Writes ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    All files are written atomically. An encoder with LoRA is written as a native model with the adapters merged; the adapters
    alone, in peft's format, are written to its folder ``adapter``. A ViT gets a pooler
    that returns its class token (see :func:`~.usage.identity_pooler`).

    Args:
        encoder: The native model.
        processor: Its image processor.
        folder: The output folder; created if needed, other files in it are kept.
        timm_settings: Its preprocessing in timm's terms. An encoder of timm is published with it, so that ``timm.create_model`` loads
            it too, as it is or with a new classifier or another number of channels.
        state_dict: The encoder's weights where the module itself has only a part of them (sharded training).
    """
    weights = {name: value.contiguous() for name, value in merged_state_dict(encoder, state_dict).items()}
    family = family_of(encoder)
    weights = _unshared(encoder, weights)
    weights = {name.removeprefix(family.weight_prefix): value for name, value in weights.items()}
    if family.processor_in_config:
        encoder.config.pretrained_cfg = {**(timm_settings or {}), **replaced_layers(encoder)}
        encoder.config.num_features = (
            encoder.timm_model.num_features
        )  # as timm writes it; sentence-transformers asks for it
    with atomic_files(folder) as unfinished:
        with _class_token_pooled(encoder, weights):
            encoder.save_pretrained(unfinished, state_dict=weights)
        if family.processor_in_config:
            _leave_out_labels(unfinished / "config.json")
        else:
            processor.save_pretrained(unfinished)
        if lora_layers(encoder):
            with atomic_files(folder / ADAPTER_FOLDER, beside=True) as adapter:
                save_adapter(encoder, adapter, state_dict)


def save_encoder(
    method: Method,
    folder: str | Path,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int | None = None,
    resize_ratio: float | None = None,
) -> None:
    """Writes the encoder of a method that was trained in another loop, with its image processor, as a run publishes them.

    Args:
        method: The method.
        folder: The output folder; created if needed, other files in it are kept.
        mean: Mean of each color in [0, 1] that the images were normalized by: ``ViewDataset``'s.
        std: Standard deviation of each color.
        image_size: Side of the images that the processor makes, in pixels; None: that of the method's first view.
        resize_ratio: Share of the resized image that the center crop keeps; None: 0.875 from 128 px on, else 1.
    """
    size, encoder = image_size or method.views[0].size, method.export_encoder()
    ratio, colors = resize_ratio or (0.875 if size >= 128 else 1.0), (tuple(mean), tuple(std))
    processor = build_processor(encoder, size, ratio, *colors)
    export_encoder(encoder, processor, Path(folder), timm_settings(size, ratio, *colors))


def _leave_out_labels(file: Path) -> None:
    """Takes the empty ``label_names`` out of a configuration: transformers would keep it for the classes of a fine-tuned model."""
    fields = json.loads(file.read_text(encoding="utf-8"))
    if not fields.get("label_names"):
        fields.pop("label_names", None)
        file.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_published(training: Training, processor: Any, ratio: float, folder: Path, whole: dict[str, Tensor]) -> None:
    """Writes the encoder of a run, and the whole method beside it in ``method``.

    Args:
        training: The run.
        processor: The encoder's image processor.
        ratio: Share of the resized image that the processor's crop keeps.
        folder: Where to.
        whole: All weights of the method; sharded training gathers them.

    Raises:
        TrainingError: The weights are not finite; nothing was written.
    """
    method, encoder = training.method, training.method.export_encoder()
    weights = weights_of(encoder, method, whole)
    if wrong := not_finite(weights):
        raise TrainingError(
            f"the training has ended in weights that are not finite, and nothing was published: {wrong}; lower optim.lr or clip the gradient "
            "(optim.clip_grad_norm), and train again in another train.output"
        )
    settings = timm_settings(published_size(training.recipe, training.views), ratio, training.mean, training.std)
    export_encoder(encoder, processor, folder, settings, weights)
    save_method(method, folder / "method", whole)


def weights_of(encoder: PreTrainedModel, method: Method, whole: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an encoder that is made of a method's parts, by its own names.

    Args:
        encoder: One of the method's modules, or another over the same parameters.
        method: The method.
        whole: All weights of the method; sharded training gathers them.
    """
    names = {id(value): name for name, value in method.state_dict(keep_vars=True).items()}
    return {name: whole[names[id(value)]] for name, value in encoder.state_dict(keep_vars=True).items()}


def _unshared(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with a copy for each further name of a tensor that transformers does not know to be tied (as in timm's CoaT)."""
    ties = getattr(model, "all_tied_weights_keys", None) or {}
    known, seen = {*ties, *ties.values()}, set()
    found = {}
    for name, value in weights.items():
        place = (value.data_ptr(), value.shape) if value.numel() else name
        found[name] = value.clone() if place in seen and name not in known else value
        seen.add(place)
    return found


@contextmanager
def _class_token_pooled(encoder: PreTrainedModel, weights: dict[str, Tensor]) -> Iterator[None]:
    """While saving, adds a pooler that returns the class token: without it ``AutoModel`` would initialize one at random.

    Where an architecture's pooler cannot be that, it gets fixed weights, which are not reported as missing on every load.
    """
    pooler = identity_pooler(encoder)
    if pooler is None:
        weights |= neutral_pooler(encoder)
        yield
        return
    weights |= pooler
    before = {name: getattr(encoder.config, name, None) for name in ("pooler_act", "pooler_output_size")}
    encoder.config.pooler_act, encoder.config.pooler_output_size = "linear", encoder.config.hidden_size
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(encoder.config, name, value)


def save_method(method: PreTrainedModel, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
    """Writes the whole method, heads and teachers included, for ``AutoModel`` after ``import hfcontrast``.

    LoRA adapters are merged into the weights.
    """
    weights = {name: value.contiguous() for name, value in merged_state_dict(method, state_dict).items()}
    weights = _unshared(method, weights)
    with atomic_files(folder, beside=True) as unfinished:
        method.save_pretrained(unfinished, state_dict=weights)
