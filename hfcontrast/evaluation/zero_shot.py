"""Zero-shot classification: an image belongs to the class whose name, in a prompt, has the most similar embedding.

Protocol of CLIP (Radford et al., 2021, sections 3.1.2 to 3.1.4, arXiv:2103.00020): every prompt template is filled with the
name of every class; a class is the mean of its normalized prompt embeddings, normalized again.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedModel

from ..data.evaluation_loader import evaluation_batches
from ..data.label_numbers import LabelNumbers
from ..data.sources import Rows
from ..encoders.features import feature_size
from ..encoders.two_towers import is_two_towers
from ..errors import DataError, HFContrastError
from ..nn.distributed import rank, world_size
from .chance import of_classes
from .counts import class_count
from .features import extract_features, join_processes
from .inputs import as_rows, image_transform, share_out, text_embeddings
from .protocol import Chance
from .ranks import chunk_rows, rivals, similarities, unit
from .templates import PHOTO, check_templates, fill

Batches = Callable[[], Iterable[tuple[Tensor, Tensor | None]]]


def class_embeddings(
    model: PreTrainedModel,
    tokenizer: Any,
    class_names: Sequence[str],
    templates: Sequence[str] = PHOTO,
    batch_size: int = 256,
    cut: set[str] | None = None,
) -> Tensor:
    """The weights of a zero-shot classifier.

    Args:
        model: A model with two towers; its training mode is restored afterwards.
        tokenizer: Its tokenizer, or a processor that has one.
        class_names: K names, used as they are: replace underscores by spaces yourself where names have them.
        templates: Texts with {} for the name; several are an ensemble.
        batch_size: Texts encoded at once.
        cut: Is given the prompts that are longer than the model takes, and were cut off.

    Returns:
        (K, D) float32 on the CPU, rows of length 1.

    Raises:
        HFContrastError: The model has no text tower, or a template has no {}.
    """
    require_text_tower(model)
    templates = check_templates(templates)
    at_once = max(batch_size // len(templates), 1)
    found = [torch.zeros(0, feature_size(model))]
    for start in range(0, len(class_names), at_once):
        names = class_names[start : start + at_once]
        prompts = [fill(template, name) for name in names for template in templates]
        embeddings = unit(text_embeddings(model, tokenizer, prompts, batch_size, cut))
        found.append(unit(embeddings.unflatten(0, (len(names), len(templates))).mean(dim=1)))
    return torch.cat(found)


def require_text_tower(model: PreTrainedModel) -> None:
    """Refuses a model that knows no texts.

    Raises:
        HFContrastError: The model has no text tower.
    """
    if not is_two_towers(model):
        raise HFContrastError(
            f"{type(model).__name__} has no text tower, which class names and captions need: take a model with both image and "
            "text features (CLIP, SigLIP, VisionTextDualEncoder), or evaluate this one with knn or linear"
        )


def zero_shot_accuracy(
    image_features: Tensor, class_embeddings: Tensor, labels: Tensor, top: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Shares of images whose class is among the most similar ones.

    Classes that are exactly as similar as the right one (two of one name, or an encoder that has collapsed) are taken to
    stand in a random order: such an image counts with the probability that its class is among the first. So a collapsed encoder scores 1 / K.

    Args:
        image_features: (N, D), normalized or not.
        class_embeddings: (K, D), normalized or not.
        labels: (N,) classes from 0 to K - 1; rows with a negative one have none and are left out.
        top: How many classes may be named.

    Returns:
        ``top1``, ``top5``, ... in [0, 1].

    Raises:
        ValueError: No row has a label, or a label is K or more.
    """
    hits, _ = _hits(image_features, class_embeddings, labels, top)
    return {f"top{k}": float(share) for k, share in zip(top, hits.mean(dim=0))}


def mean_class_accuracy(image_features: Tensor, class_embeddings: Tensor, labels: Tensor) -> float:
    """The mean over the classes that occur of the share of their images that are classified rightly; arguments as above."""
    hits, labels = _hits(image_features, class_embeddings, labels, (1,))
    right = torch.zeros(len(class_embeddings), dtype=hits.dtype).index_add_(0, labels, hits[:, 0])
    counts = labels.bincount(minlength=len(class_embeddings))
    return float((right[counts > 0] / counts[counts > 0]).mean())


def _hits(images: Tensor, classes: Tensor, labels: Tensor, top: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(N, len(top)) shares and (N,) labels of the rows that have one."""
    images, labels = images[labels >= 0], labels[labels >= 0]
    if not len(labels):
        raise ValueError("zero-shot accuracy needs labeled rows: no row has a label")
    if int(labels.max()) >= len(classes):
        raise ValueError(f"label {int(labels.max())} has no class embedding: there are {len(classes)}, from 0")
    images, classes = unit(images), unit(classes)
    allowed = torch.tensor([float(k) for k in top], dtype=torch.float64, device=images.device)
    found = []
    step = chunk_rows(len(classes))
    for part, wanted in zip(images.split(step), labels.split(step)):
        similarity = similarities(part, classes)
        better, equal = rivals(similarity, similarity.gather(1, wanted[:, None])[:, 0])
        found.append(((allowed - better[:, None]) / (equal[:, None] + 1)).clamp(0, 1))
    return torch.cat(found).cpu(), labels.cpu()


class ZeroShot:
    """Evaluates models with two towers on the same images and classes again and again.

    Args:
        batches: Gives this process's share of the images as batches of (pixel_values, labels).
        tokenizer: The model's tokenizer, or a processor that has one.
        class_names: K names by label, used as they are.
        templates: Texts with {} for the name.
        top: How many classes may be named; those from K are left out, as they say nothing.
        batch_size: Texts encoded at once.
        places: Gives the places of the classes among the names, from the labels (N,); None: labels are these places.

    Attributes:
        images: How many images with a label were classified the last time.
        cut_off: How many prompts were longer than the model takes, as ``prompts_cut_off``; empty where none was.
        chance: What the figures of these images would be for one class alone, by their names.
    """

    def __init__(
        self,
        batches: Batches,
        tokenizer: Any,
        class_names: Sequence[str],
        templates: Sequence[str] = PHOTO,
        top: Sequence[int] = (1, 5),
        batch_size: int = 256,
        places: Callable[[Tensor], Tensor] | None = None,
    ):
        self.batches = batches
        self.tokenizer = tokenizer
        self.class_names = list(class_names)
        self.templates = check_templates(templates)
        self.top = tuple(k for k in top if k == 1 or k < len(self.class_names))
        self.batch_size = batch_size
        self.places = places
        self.images = 0
        self.cut_off: dict[str, int] = {}
        self.chance: dict[str, Chance | None] = {}

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """``top1``, ``top5`` and ``mean_per_class``, in [0, 1]; every process must call it.

        Raises:
            HFContrastError: The model has no text tower.
            DataError: There is no image, none has a label, or a label has no class name.
        """
        require_text_tower(model)
        batches = ((pixels, _labels(pixels, labels)) for pixels, labels, *_ in self.batches())
        return self.score(model, *extract_features(model, batches))

    def score(self, model: PreTrainedModel, image_features: Tensor, labels: Tensor) -> dict[str, float]:
        """The same of features that are there already: (N, D) and (N,) of all processes together."""
        require_text_tower(model)
        labels = self.places(labels) if self.places else labels
        self.images = int((labels >= 0).sum())
        mine = self.class_names[rank() :: world_size()]
        cut: set[str] = set()
        own = class_embeddings(model, self.tokenizer, mine, self.templates, self.batch_size, cut)
        cut_off = int(join_processes(torch.tensor([len(cut)])).sum())
        self.cut_off = {"prompts_cut_off": cut_off} if cut_off else {}
        classes = join_processes(own)
        try:
            scores = zero_shot_accuracy(image_features, classes, labels, self.top)
            scores["mean_per_class"] = mean_class_accuracy(image_features, classes, labels)
        except ValueError as error:
            raise DataError(str(error)) from error
        self.chance = {f"top{k}": of_classes(labels, self.class_names.__getitem__, k) for k in self.top}
        self.chance["mean_per_class"] = Chance(1 / class_count(labels))
        return scores


def _labels(pixels: Tensor, labels: Tensor | None) -> Tensor:
    return torch.full((len(pixels),), -1) if labels is None else labels


def classify_rows(
    model: PreTrainedModel,
    processor: Any,
    data: Rows | Dataset | IterableDataset,
    *,
    class_names: Sequence[str] | None = None,
    templates: Sequence[str] = PHOTO,
    image_column: str | None = None,
    label_column: str | None = None,
    top: Sequence[int] = (1, 5),
    batch_size: int = 64,
    limit: int | None = None,
) -> dict[str, float]:
    """Zero-shot accuracies on a labeled data set; shared out where several processes run, all of which must call it.

    Args:
        model: Any model with two towers; its training mode is restored afterwards.
        processor: Its processor: image processor and tokenizer.
        data: The images and labels; those that cannot be read are left out, with a warning.
        class_names: Names by label; None takes those of the ``ClassLabel`` column, underscores as they are.
        templates: Texts with {} for the name.
        image_column: Column with the images; None: ``image``, else the first one.
        label_column: Column with the labels; None: ``label``, else the first one of class labels.
        top: How many classes may be named.
        batch_size: Images encoded at once.
        limit: Images at most; see ``share_out``.

    Returns:
        ``top1``, ``top5``, ``mean_per_class`` in [0, 1].

    Raises:
        HFContrastError: The model has no text tower.
        DataError: There are no labels, or they have no names.
    """
    require_text_tower(model)
    rows = as_rows(data, image_column=image_column, label_column=label_column)
    names = class_names_of(rows, class_names)
    mine, transform = share_out(rows, limit), image_transform(processor)
    batches: Any = partial(evaluation_batches, mine, transform, batch_size)
    return ZeroShot(batches, processor, names, templates, top, places=partial(class_places, rows.labels, names))(model)


def class_places(numbers: LabelNumbers, names: Sequence[str], labels: Tensor) -> Tensor:
    """The places of the images' classes among the names that a data set has by itself, or that were given for it.

    Args:
        numbers: The class numbers of the data set.
        names: The names of its classes; of a stream whose labels are texts, these texts.
        labels: (N,) class numbers, below 0 where there is none.

    Raises:
        DataError: A text is none of the names.
    """
    if numbers.texts:
        places = {numbers.number(name): place for place, name in enumerate(names)}
    elif numbers.names is not None and numbers.numbers is not None:
        places = {numbers.number(place): place for place in range(len(numbers.names))}
    else:
        return labels
    different, inverse = labels.unique(return_inverse=True)
    if unknown := [label for label in different.tolist() if label >= 0 and label not in places]:
        raise DataError(
            f"the label {numbers.name(unknown[0])!r} is none of the {len(names)} class names that are given"
        )
    return torch.tensor([places.get(label, -1) for label in different.tolist()], dtype=labels.dtype)[inverse.cpu()]


def class_names_of(rows: Rows, given: Sequence[str] | None = None) -> list[str]:
    """The names of the classes of labeled rows: those that are given, else their own.

    Raises:
        DataError: There are no labels, no names, too few or too many of them, or two classes are given one name.
    """
    if not rows.labeled:
        raise DataError(
            f"{rows.description} has no labels for zero-shot classification: name the column of class labels"
        )
    if given is None and rows.labels.texts:
        raise DataError(
            f"the labels of {rows.description} are texts of a stream, which are not known beforehand: name all of them as classes"
        )
    if given is None and rows.class_names is None:
        raise DataError(f"the labels of {rows.description} are numbers without names: say what the classes are called")
    if given is not None and rows.class_names is not None and len(given) != len(rows.class_names):
        one = f"; {given[0]!r} is one name: give each by itself" if len(given) == 1 and "," in given[0] else ""
        names = "1 name is" if len(given) == 1 else f"{len(given)} names are"
        raise DataError(f"{rows.description} has {len(rows.class_names)} classes, but {names} given{one}")
    if given is not None and (doubled := next((name for name in given if given.count(name) > 1), None)) is not None:
        raise DataError(f"two classes are called {doubled!r}, which no prompt tells apart: give each a name of its own")
    return list(rows.class_names if given is None else given)
