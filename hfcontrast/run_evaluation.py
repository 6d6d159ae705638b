"""What a run is judged on: its rows, the processor that it publishes, and the scores of both kinds of models."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from .data.held_out import held_out_sources, in_fifth
from .data.sources import Rows, load_rows
from .encoders.layers import layer_distances
from .encoders.two_towers import is_two_towers
from .errors import DataError, RecipeError, under
from .evaluation.batches import Batches
from .evaluation.finetune import FineTuning
from .evaluation.inputs import picture_transform
from .evaluation.online import OnlineEvaluation
from .evaluation.retrieval import Retrieval, caption_batches
from .evaluation.zero_shot import ZeroShot, class_names_of
from .methods.base import Method
from .publishing.processor import build_processor, with_tokenizer
from .recipe import Recipe
from .recipe.sections import ZeroShotTask
from .training.build import Training
from .training.build_method import published_size
from .training.engines import SHARDED


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
    judged = batches(queries, settings.max_test)
    judged.check()
    evaluation = OnlineEvaluation(
        batches(bank, settings.max_train, tests=judged) if bank.labeled and queries.labeled else None,
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
            with under("eval.finetune.layer_decay"):
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
        rows: How many rows it has: neighbors and queries.
        processing: How images are prepared.
        with_texts: Whether the encoder knows texts.
    """
    settings = recipe.eval
    source = [name, recipe.evaluation_source(), rows, settings.max_train, settings.max_test]
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
    recipe: Recipe, queries: Rows, judged: Batches, batches: Callable[..., Batches], tokenizer: Any
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
        tasks[name] = ZeroShot(batches(rows, recipe.eval.max_test), tokenizer, names, task.templates)
    return tasks


def _task_rows(recipe: Recipe, task: ZeroShotTask) -> Rows:
    """The rows of a zero-shot task; what it does not say is as in `eval`, and then as in `data`."""
    source = recipe.evaluation_source()
    own = {name: value for name, value in task.model_dump(include=set(source)).items() if value is not None}
    if task.path is not None:  # another data set: nothing of the first one's is meant
        source = {name: source[name] for name in ("streaming", "open_addresses", "max_pixels")}
    split = task.split or recipe.eval.split
    source |= own
    if split is None:
        source, split, _ = next(held_out_sources(source), (source, "train", None))
    return load_rows(**source, split=split)


def _spoken(names: list[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def evaluation_rows(recipe: Recipe, rows: Rows, captioned: bool = False) -> tuple[Rows, Rows, str]:
    """Train rows, test rows (with their captions, where those are wanted and there are any) and what their data is called.

    Test rows are the recipe's split; else a held-out split, or a folder beside the trained one (see
    :mod:`.data.held_out`); else a fifth of the training rows, which are then no neighbors.

    Raises:
        DataError: They cannot be opened, have different classes, or are too few.
    """
    source = recipe.evaluation_source()
    split = source.pop("split", None) or recipe.eval.split
    elsewhere = recipe.eval.path is not None
    train_split = "train" if elsewhere else recipe.data.split
    train = load_rows(**source, split="train") if elsewhere else rows
    wanted = "auto" if captioned else False
    if split is not None:
        tests, name = load_rows(**source, split=split, captioned=wanted), f"{source['path']} ({split})"
    elif found := find_held_out(source, train, train_split, captioned=wanted):
        tests, where = found
        name = f"{source['path']} ({where})"
    else:
        check_enough(train)
        name = f"{source['path']} (a fifth of {train_split})"
        return train.where(lambda i: not in_fifth(i)), train.where(in_fifth), name
    check_same_classes(train, tests)
    return train, tests, name


def find_held_out(
    source: dict[str, Any], train: Rows, train_split: str, captioned: bool | str = False
) -> tuple[Rows, str] | None:
    """The best rows that are held out for evaluation, and where they are; None where there are none.

    Rows that cannot be classified by the training rows (without labels, with other classes) come last: they are taken where
    they are a split of the same data set, of which it is then said, and passed over in a folder beside it.

    Args:
        source: Of the training rows, as arguments of ``load_rows``.
        train: The training rows.
        train_split: Their split.
        captioned: As in ``load_rows``.

    Raises:
        DataError: A split of the data set cannot be opened.
    """
    last = None
    for other, split, folder in held_out_sources(source):
        if folder is None and split == train_split:
            continue
        try:
            tests = load_rows(**other, split=split, captioned=captioned)
        except DataError:
            if folder is None:
                raise
            continue
        if folder is None:
            found = tests, split
        else:
            found = replace(tests, description=f"{folder} ({tests.description})"), f"folder {folder.name} beside it"
        if fit_together(train, tests):
            return found
        last = last or (found if folder is None else None)
    return last


def fit_together(train: Rows, tests: Rows) -> bool:
    """Whether test rows can be classified by train rows, as far as columns and names of classes say."""
    if not train.labeled:
        return True
    same = not (train.class_names and tests.class_names) or train.class_names == tests.class_names
    return tests.labeled and same


def check_enough(rows: Rows) -> None:
    """Refuses to hold a fifth of too few rows out.

    Raises:
        DataError: There are fewer than five.
    """
    if rows.num_rows is not None and rows.num_rows < 5:
        raise DataError(
            f"{rows.description} has {rows.num_rows} row(s) and no test split: of fewer than 5 no fifth can be held out to "
            "evaluate on; name a data set in eval.path or a split in eval.split"
        )


def check_same_classes(bank: Rows, queries: Rows) -> None:
    """Refuses neighbors that cannot vote.

    Raises:
        DataError: Both name their classes, and differently.
    """
    if bank.class_names and queries.class_names and bank.class_names != queries.class_names:
        names = sorted(set(bank.class_names) ^ set(queries.class_names)) or "the same in another order"
        raise DataError(
            f"the classes of {queries.description} are not those of {bank.description} ({names}), so its pictures cannot be "
            "classified by their neighbors: choose another eval.split or eval.path"
        )
