"""Opens what a command line names: a model with its image processor and tokenizer, and rows."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import yaml
from transformers import AutoImageProcessor, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from ..checksums import finished, new_fingerprint
from ..encoders.channels import channels_of
from ..encoders.families import family_of
from ..encoders.features import encode
from ..encoders.finite_weights import not_finite
from ..encoders.pretrained import missing_keys, reason
from ..encoders.released_tokenizer import ReleasedTokenizer
from ..encoders.suitability import require_encoder
from ..encoders.two_towers import is_two_towers, text_features
from ..errors import ArgumentError, DataError, HFContrastError
from ..evaluation.inputs import blank_image, image_transform, tokenize
from ..evaluation.tuned import Tuned
from ..hub import reaching_hub
from ..methods import registry
from ..nn.distributed import world_size
from ..paths import local_path

logger = logging.getLogger(__name__)

_LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, TypeError)


@dataclass(frozen=True)
class OpenedModel:
    """A model that can be evaluated and used.

    Attributes:
        model: In evaluation mode, float32, on its device; of a saved hfcontrast method the encoder that it would publish.
        name: The folder or name on the Hub.
        revision: The commit of a model on the Hub; None of a folder.
        source_options: What its processor and tokenizer are loaded with too.
    """

    model: PreTrainedModel
    name: str
    revision: str | None
    source_options: dict[str, Any]

    @property
    def reads_texts(self) -> bool:
        """Whether it has a text tower."""
        return is_two_towers(self.model)

    @cached_property
    def image_processor(self) -> Any:
        """The model's own image processor.

        Raises:
            HFContrastError: It has none.
        """
        return self._load(AutoImageProcessor, "image processor (preprocessor_config.json)")

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own tokenizer.

        Raises:
            HFContrastError: It has none.
        """
        return self._load(ReleasedTokenizer, "tokenizer")

    @cached_property
    def tuned(self) -> Tuned:
        """What of it is fine-tuned, as the run that has published it left its adapters and its recipe."""
        adapters, recipe = self._left("adapter/adapter_config.json"), self._left("recipe.yaml")
        backbone = recipe.get("backbone")
        locked = backbone.get("locked") if isinstance(backbone, dict) else None
        return Tuned(adapters if "r" in adapters else None, "vision" in (locked or ()))

    def _left(self, file: str) -> dict[str, Any]:
        """A file of settings that a run has left beside the model; empty where there is none."""
        try:
            missing = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
            path = cached_file(self.name, file, revision=self.source_options.get("revision"), **missing)
            found = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else None
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    def _load(self, auto_class: Any, what: str) -> Any:
        with reaching_hub(self.name) as unreachable, _quiet():
            try:
                return auto_class.from_pretrained(self.name, **self.source_options)
            except Exception as error:  # anything that libraries raise for a damaged file
                why = reason(error, "add --trust-remote-code if you trust its author")
                raise HFContrastError(f"{self.name} has no {what} that can be loaded: {why}{unreachable}") from error

    @torch.no_grad()
    def image_width(self) -> int:
        """Width of the features of images, found by encoding a blank one.

        Raises:
            HFContrastError: The model cannot encode what its image processor makes.
        """
        try:
            if not self.reads_texts:  # those are called in their own way
                require_encoder(self.model.config)
        except ArgumentError as error:
            raise HFContrastError(f"{self.name}: {error}") from error
        transform = image_transform(self.image_processor)
        try:
            pixels = transform([blank_image(channels_of(self.model))])
            if pixels.ndim != 4:
                raise HFContrastError(
                    f"{self.name} ({type(self.model).__name__}) takes the patches of an image with their places, not images of one size, "
                    "which is not supported: of SigLIP 2 take a model of a fixed resolution, such as google/siglip2-base-patch16-224"
                )
            return self._width(encode(self.model, pixels.to(self.model.device)), "an image")
        except (*_LOADING_ERRORS, DataError) as error:
            raise HFContrastError(
                f"{self.name} ({type(self.model).__name__}) gives no feature vector for an image: {_first_line(error)}"
            ) from error

    @torch.no_grad()
    def text_width(self) -> int:
        """Width of the features of texts, found by encoding one.

        Raises:
            HFContrastError: The model cannot encode what its tokenizer makes.
        """
        try:
            return self._width(text_features(self.model, **tokenize(self.model, self.tokenizer, ["a"])), "a text")
        except (*_LOADING_ERRORS, IndexError, DataError) as error:
            raise HFContrastError(
                f"{self.name} ({type(self.model).__name__}) gives no feature vector for a text: {_first_line(error)}"
            ) from error

    @cached_property
    def text_problem(self) -> str | None:
        """Why its texts cannot be compared with images; None where they can."""
        try:
            texts = self.text_width()
        except HFContrastError as error:
            return str(error)
        if texts != (images := self.image_width()):
            return f"{self.name} has features of {images:,} numbers for images and of {texts:,} for texts, which cannot be compared"
        return None

    def _width(self, features: Any, of: str) -> int:
        if not isinstance(features, torch.Tensor) or features.ndim != 2:
            raise HFContrastError(f"{self.name} ({type(self.model).__name__}) gives no feature vector for {of}")
        return features.shape[1]

    def digest(self, images: bool = True, texts: bool = True) -> str:
        """A fingerprint of the weights and of how images, and texts, are prepared."""
        found = new_fingerprint()
        for name, value in sorted(self.model.state_dict().items()):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        if images:
            found.update(json.dumps(self.image_processor.to_dict(), sort_keys=True, default=str).encode())
        if texts:
            found.update(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode())
        return finished(found)


def open_model(
    name: str, revision: str | None = None, device: str | None = None, trust_remote_code: bool = False
) -> OpenedModel:
    """Loads anything that ``AutoModel`` loads, saved hfcontrast methods included.

    A pooler that is not in the weights is taken out, so that features are the class token instead of random numbers. A
    ViTMAE hides nothing; an ImageGPT's colors are those of its image processor. Other tensors that are not there are named in a warning.

    Args:
        name: A folder or a name on the Hub.
        revision: Branch, tag or commit on the Hub.
        device: Such as ``cuda:1``; None takes a GPU where there is one.
        trust_remote_code: Whether to run Python code that the model brings with it.

    Raises:
        HFContrastError: It cannot be loaded, or there is no such device.
    """
    name = local_path(name)
    options = {"trust_remote_code": trust_remote_code} | ({"revision": revision} if revision else {})
    place = usable_device(device)
    with reaching_hub(name) as unreachable, _quiet():
        try:
            config, _ = PreTrainedConfig.get_config_dict(name, **options)
            if str(config.get("model_type")).startswith("hfcontrast_"):
                registry.register_all()
            wanted = {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, report = AutoModel.from_pretrained(name, dtype=torch.float32, **wanted, **options)
        except HFContrastError:
            raise
        except Exception as error:  # anything that libraries raise for a damaged file
            why = reason(error, "add --trust-remote-code if you trust its author")
            raise HFContrastError(f"{name} cannot be loaded as a model: {why}{unreachable}") from error
    missing = sorted(missing_keys(report))
    pooler = [key for key in missing if key.startswith("pooler.")]
    if pooler and getattr(model, "pooler", None) is not None:
        model.pooler = None
        missing = [key for key in missing if key not in pooler]
    refuse_foreign_weights(name, model, missing)
    if missing:
        logger.warning("%s: %d tensors are not in the weights and stay random, e.g. %s", name, len(missing), missing[0])
    if hasattr(model, "export_encoder"):
        model = model.export_encoder()
    if wrong := not_finite(model):
        raise HFContrastError(
            f"{name} cannot be used: {wrong}; take an earlier checkpoint, or weights that are undamaged"
        )
    family = family_of(model)
    family.configure(model.config)
    try:
        model = model.to(place)
    except RuntimeError as error:
        raise HFContrastError(f"{name} cannot be put on {place}: {_first_line(error)}") from error
    opened = OpenedModel(model.eval(), name, getattr(model.config, "_commit_hash", None), options)
    family.from_processor(model.config, lambda: opened.image_processor)
    return opened


def refuse_foreign_weights(name: str, model: PreTrainedModel, missing: Sequence[str]) -> None:
    """Refuses a model of which a part is random: its scores or its embeddings would be random too.

    A layer at the top that the weights lack as a whole (a projection, a pooler) is not one of its parts.

    Args:
        name: The folder or name.
        model: The model.
        missing: Names of its tensors that the weights do not have in the right shape.

    Raises:
        HFContrastError: More than that is missing.
    """
    everything = model.state_dict().keys()
    stored = {key.partition(".")[0] for key in everything - set(missing)}
    needed = [key for key in missing if not key.endswith(("mask_token", "position_ids", "num_batches_tracked"))]
    parts = [key for key in needed if key.partition(".")[0] in stored]
    if parts or len(needed) > len(everything) / 10:
        raise HFContrastError(
            f"{name}: the weights lack {len(missing)} of the {len(everything)} tensors of its {type(model).__name__}, such as "
            f"{(parts or needed)[0]}, which would be random: its config.json and its weights do not belong together"
        )


def usable_device(name: str | None) -> str:
    """The device of that name, found to be there; of none the default.

    Raises:
        HFContrastError: There is no such device.
    """
    name = default_device() if name in (None, "cuda") and world_size() > 1 else name or default_device()
    try:
        torch.ones(1, device=name).item()  # what has no memory (meta) has no number either
        return name
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise HFContrastError(f"device {name!r} cannot be used: {_first_line(error)}") from error


def default_device() -> str:
    """A GPU where there is one; of several processes of a launcher each has its own."""
    if torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}" if world_size() > 1 else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report and bars: what matters of them is said here."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)


def quiet_libraries() -> None:
    """What commands ask of the libraries: only errors, and no bars but ours; of datasets none, which logs what it then raises."""
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
