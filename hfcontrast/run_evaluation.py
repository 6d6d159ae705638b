"""What a run is judged on: its rows, the processor that it publishes, and the scores of both kinds of models."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .data.evaluation import evaluation_batches
from .data.map_rows import RowReader
from .data.sources import Rows, available_splits, load_rows
from .errors import DataError, RecipeError
from .evaluation.finetune import FineTuning
from .evaluation.inputs import picture_transform, share_out
from .evaluation.online import OnlineEvaluation
from .evaluation.retrieval import Retrieval, caption_batches
from .evaluation.zero_shot import ZeroShot, class_names_of
from .methods.base import Method
from .nn.families import layer_distances
from .nn.two_towers import is_two_towers
from .publishing.processor import build_processor, with_tokenizer
from .recipe import Recipe
from .recipe.sections import ZeroShotTask
from .training.engines import SHARDED
from .training.method import published_size
from .training.setup import Training

CACHED_BYTES = 1 << 30  # evaluation images are kept as tensors when all of them take no more than this


def build_evaluation(training: Training) -> tuple[OnlineEvaluation, str, Any, float]:
    """The evaluation of a run: on which rows, through the very processor that is published."""
    recipe = training.recipe
    size = published_size(recipe, training.views)
    ratio = recipe.publish.resize_ratio or (0.875 if size >= 128 else 1.0)
    encoder = training.method.export_encoder()
    processor = build_processor(encoder, size, ratio, training.mean, training.std)
    with_texts = training.captions is not None and is_two_towers(encoder)
    bank, queries, name = evaluation_rows(recipe, training.rows, with_texts and recipe.eval.retrieval)
    batches = partial(Batches, transform=picture_transform(processor), batch_size=recipe.eval.batch_size, size=size)
    settings = recipe.eval
    judged = batches(queries, settings.max_queries)
    evaluation = OnlineEvaluation(
        batches(bank, settings.max_bank) if bank.labelled and queries.labelled else None,
        judged,
        settings.knn_k,
        settings.knn_temperature,
        settings.linear_probe,
    )
    processing = [size, ratio, training.mean, training.std]
    evaluation.conditions = conditions(recipe, name, [bank.num_rows, queries.num_rows], processing, with_texts)
    if settings.finetuning:
        check_whole_weights(training)
        evaluation.finetuning = FineTuning(**settings.finetuning.model_dump())
        evaluation.trained = trained_names(encoder, training.method)
        if settings.finetuning.layer_decay is not None:
            layer_distances(encoder)  # refuses an encoder whose layers are not known, before the training
    if with_texts:
        tokenizer = training.captions.tokenizer
        evaluation.zero_shot = zero_shot_tasks(recipe, queries, judged, batches, tokenizer)
        if queries.captions and settings.retrieval:
            pairs = partial(caption_batches, judged.rows, judged.transform, settings.batch_size)
            evaluation.retrieval = Retrieval(pairs, tokenizer)
        processor = with_tokenizer(encoder, processor, tokenizer)
    return evaluation, name, processor, ratio


def conditions(
    recipe: Recipe, name: str, rows: list[int | None], processing: list[Any], with_texts: bool
) -> dict[str, Any]:
    """What the scores of a run depend on beside its encoder, by kinds of scores, as JSON.

    Args:
        recipe: The recipe.
        name: What the data is called.
        rows: How many rows it has: neighbours and queries.
        processing: How images are prepared.
        with_texts: Whether the encoder knows texts.
    """
    settings = recipe.eval
    source = [name, recipe.evaluation_source(), rows, settings.max_bank, settings.max_queries]
    found = {"images": [source, processing], "knn": [settings.knn_k, settings.knn_temperature]}
    if settings.finetuning:
        found["finetune"] = settings.finetuning.model_dump(exclude_none=True)
    if with_texts:
        tasks = settings.zero_shot
        found["zero_shot"] = None if tasks is None else [task.model_dump() for task in tasks]
        found["retrieval"] = settings.retrieval
    return json.loads(json.dumps(found, default=str))


def check_whole_weights(training: Training) -> None:
    """Refuses fine-tuning where the weights are not whole on every process.

    Raises:
        RecipeError: They are not.
    """
    kind = training.accelerator.distributed_type
    if kind in SHARDED:
        raise RecipeError(
            f"eval.finetune trains a copy of the encoder, on one process or with plain data parallelism, not with {kind.value}: "
            "set it to false, and judge the published encoder with `hfcontrast evaluate --task finetune`"
        )


def trained_names(encoder: PreTrainedModel, method: Method) -> list[str]:
    """The encoder's parameters that the method trains; of a teacher, which has no gradients, those of what it follows.

    Args:
        encoder: Made of the method's parts.
        method: The method.
    """
    known = dict(method.named_parameters(remove_duplicate=False))
    places = {id(parameter): name for name, parameter in known.items()}
    found = []
    for name, parameter in encoder.named_parameters():
        place = places.get(id(parameter), "")
        for teacher, source in method.teachers.items():
            if place.startswith(f"{teacher}."):
                parameter = known.get(source + place[len(teacher) :], parameter)
        if parameter.requires_grad:
            found.append(name)
    return found


def zero_shot_tasks(
    recipe: Recipe, queries: Rows, judged: "Batches", batches: Callable[..., "Batches"], tokenizer: Any
) -> dict[str, ZeroShot]:
    """The zero-shot tasks of a recipe by their names; without any, the one that the judged rows allow.

    Raises:
        DataError: A task's rows cannot be opened, or their classes have no names.
    """
    wanted = recipe.eval.zero_shot
    if wanted is None:
        if not queries.class_names:
            return {}
        task = ZeroShotTask()
        return {"label": ZeroShot(judged, tokenizer, _spoken(queries.class_names), task.templates)}
    tasks = {}
    for task in wanted:
        rows = _task_rows(recipe, task)
        names = _spoken(class_names_of(rows, task.classes))
        name = task.task or task.label_column or "label"
        if name in tasks:
            raise DataError(f"two tasks of eval.zero_shot are called {name!r}: give them a name, task: ...")
        tasks[name] = ZeroShot(batches(rows, recipe.eval.max_queries), tokenizer, names, task.templates)
    return tasks


def _task_rows(recipe: Recipe, task: ZeroShotTask) -> Rows:
    """The rows of a zero-shot task; what it does not say is as in `eval`, and then as in `data`."""
    source = recipe.evaluation_source()
    own = {name: value for name, value in task.model_dump(include=set(source)).items() if value is not None}
    if task.path is not None:  # another data set: nothing of the first one's is meant
        source = {name: source[name] for name in ("streaming", "open_addresses", "max_pixels")}
    split = task.split or recipe.eval.split
    source |= own
    return load_rows(**source, split=split or _held_out_split_of(source) or "train")


def _spoken(names: list[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def evaluation_rows(recipe: Recipe, rows: Rows, captioned: bool = False) -> tuple[Rows, Rows, str]:
    """Neighbours, queries (with their captions, where those are wanted and there are any) and what their data is called.

    Queries are the recipe's split, else ``test``, else ``validation``; else every fifth training row, which is then no
    neighbour.

    Raises:
        DataError: They cannot be opened, or have different classes.
    """
    source = recipe.evaluation_source()
    split = source.pop("split", None) or recipe.eval.split or _held_out_split_of(source)
    elsewhere = recipe.eval.path is not None
    bank = load_rows(**source, split="train") if elsewhere else rows
    if split is None:
        held_out = bank.where(lambda i: i % 5 == 4)
        name = f"{source['path']} (every fifth row of {'train' if elsewhere else recipe.data.split})"
        return bank.where(lambda i: i % 5 != 4), held_out, name
    queries = load_rows(**source, split=split, captioned="auto" if captioned else False)
    check_same_classes(bank, queries)
    return bank, queries, f"{source['path']} ({split})"


def held_out_split(splits: Collection[str]) -> str | None:
    """The split that models are judged on where none is named: ``test``, else ``validation``; None without either."""
    return next((name for name in ("test", "validation", "val", "valid") if name in splits), None)


def _held_out_split_of(source: dict[str, Any]) -> str | None:
    own = ("path", "name", "data_dir", "data_files", "revision")
    return held_out_split(available_splits(**{name: source[name] for name in own if name in source}))


def check_same_classes(bank: Rows, queries: Rows) -> None:
    """Refuses neighbours that cannot vote.

    Raises:
        DataError: Both name their classes, and differently.
    """
    if bank.class_names and queries.class_names and bank.class_names != queries.class_names:
        names = sorted(set(bank.class_names) ^ set(queries.class_names)) or "the same in another order"
        raise DataError(
            f"the classes of {queries.description} are not those of {bank.description} ({names}), so its pictures cannot be "
            "classified by their neighbours: choose another eval.split or eval.path"
        )


class Batches:
    """This process's share of a data set as batches of (pixel_values, labels); kept in memory when they are small.

    Attributes:
        too_large: Whether they are not kept, but can be read in any order.

    Args:
        rows: The data set.
        limit: How many of its rows are used at most, spread evenly over it; the first ones of a stream.
        transform: From images to pixel values.
        batch_size: Images a batch.
        size: Side of the images, in pixels.
    """

    def __init__(self, rows: Rows, limit: int | None, *, transform, batch_size: int, size: int):
        count = limit if rows.num_rows is None else min(rows.num_rows, limit or rows.num_rows)
        self.rows, self.transform, self.batch_size = share_out(rows, limit), transform, batch_size
        self.keep = count is not None and count * size * size * 12 <= CACHED_BYTES
        self.too_large = not self.keep and not rows.streaming
        self.kept: list | None = None

    def __call__(self):
        """The batches, from the first."""
        if self.kept is not None:
            return iter(self.kept)
        batches = self._read()
        if self.keep:
            self.kept = list(batches)
            return iter(self.kept)
        return batches

    def labels(self) -> Tensor:
        """(n,) labels of all rows, -1 where there is none, without a look at the pictures; of map-style rows."""
        reader = RowReader(self.rows.dataset)
        return torch.tensor(reader.labels(list(range(reader.num_rows))), dtype=torch.long)

    def in_order(self, positions: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the rows at these positions, in their order; of map-style rows."""
        return self._read(self.rows.select(positions))

    def _read(self, rows: Rows | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.rows if rows is None else rows
        for pixels, labels, *_ in evaluation_batches(rows, self.transform, self.batch_size):
            yield pixels, torch.zeros(len(pixels), dtype=torch.long) if labels is None else labels
