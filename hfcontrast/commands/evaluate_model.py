"""What any model's features are worth, by neighbors, a linear probe, prompts, retrieval and fine-tuning."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from ..console import plain_console
from ..data.sources import Rows
from ..encoders.layers import layer_distances
from ..errors import DataError, HFContrastError, under
from ..evaluation.batches import Batches
from ..evaluation.counts import label_counts, told_unlabeled
from ..evaluation.features import extract_features
from ..evaluation.finetune import FineTuning, finetune_accuracy
from ..evaluation.knn import knn_accuracy
from ..evaluation.linear_probe import linear_accuracy
from ..evaluation.retrieval import retrieve_rows
from ..evaluation.templates import PHOTO, check_templates
from ..evaluation.zero_shot import ZeroShot, class_names_of, require_text_tower
from ..nn.collapse import effective_rank, feature_std
from .arguments import DataSource
from .evaluated_rows import check_left, choose_rows, open_bank, open_rows, prepared_rows
from .models import OpenedModel, open_model

TASKS = ("knn", "linear", "zero-shot", "retrieval", "finetune")
_BY_BANK = {"knn", "linear", "finetune"}
_BY_TEXT = {"zero-shot", "retrieval"}


def evaluate_model(
    model: str,
    data: DataSource,
    *,
    tasks: Sequence[str] | None = None,
    split: str | None = None,
    bank_split: str = "train",
    limit: int | None = None,
    k: int = 20,
    finetuning: FineTuning | None = None,
    templates: Sequence[str] = PHOTO,
    class_names: Sequence[str] | None = None,
    batch_size: int = 64,
    revision: str | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Evaluates a model on a data set.

    Args:
        model: A folder or a name on the Hub, of anything that ``AutoModel`` loads.
        data: Which data.
        tasks: Out of ``knn``, ``linear``, ``finetune`` (which need labels), ``zero-shot`` (labels with names and a text tower)
            and ``retrieval`` (captions and a text tower); None: all that model and data allow, but ``finetune``, which takes
            minutes.
        split: The rows that are judged; None: ``test``, else ``validation``, else a folder of such a name beside one called
            ``train``; else, for knn and linear, a fifth of the bank, which is then no neighbor, and for the others all of it.
        bank_split: The rows that vote, and that linear probe and fine-tuning are fitted to.
        limit: Rows of each of the two at most, spread evenly over it; of a stream the first ones.
        k: Neighbors that vote, with weights of temperature 0.07.
        finetuning: How ``finetune`` trains a copy of the model; None: as its defaults are.
        templates: Prompts with {} for the name of a class.
        class_names: Names by label, used as they are; None: the data's own, with spaces for underscores.
        batch_size: Images encoded at once.
        revision: Branch, tag or commit of a model on the Hub.
        device: Such as ``cuda:1``; None takes a GPU where there is one.
        trust_remote_code: Whether to run Python code that the model brings with it.

    Returns:
        ``model``, ``revision``, ``data``, ``judged`` and ``bank`` (what the rows are), ``near_duplicates`` (rows of
        the bank that are left out as test images have near-duplicates of theirs), ``evaluation`` (how many images had a
        label and how many had none), and ``scores``: for each task the
        names and values; accuracies and recalls are shares in [0, 1].

    Raises:
        HFContrastError: A task that was asked for cannot be done with this model or data, or none can.
    """
    templates = check_templates(templates)
    opened = open_model(model, revision, device, trust_remote_code)
    opened.picture_width()  # what cannot be encoded is said before the data is read
    source, held_out, banks = choose_rows(data, split, bank_split)
    rows = open_rows(source, held_out or bank_split, tasks)
    if source != data:
        rows = replace(rows, description=f"{source.data_dir or source.path} ({rows.description})")
    chosen = list(dict.fromkeys(tasks)) if tasks else possible_tasks(opened, rows, banks, class_names)
    check_tasks(opened, rows, chosen, class_names)
    if "finetune" in chosen and finetuning and finetuning.layer_decay is not None:
        with under("layer_decay"):
            layer_distances(opened.model)  # refuses an encoder whose layers are not known, before the rest is evaluated
    bank, queries = None, rows
    if _BY_BANK & set(chosen):
        if source == data and held_out == bank_split:
            raise DataError(
                f"split {held_out} cannot be judged by its own rows: choose another --split or --bank-split"
            )
        bank, queries = open_bank(data, rows, held_out, bank_split)
    batches = prepared_rows(opened, batch_size, limit, keep="finetune" in chosen)
    test_images = batches(queries)
    train_images = batches(bank, tests=test_images) if bank else None
    scores: dict[str, dict[str, Any]] = {}
    train: tuple[Tensor, Tensor] | None = None
    if set(chosen) - {"retrieval"}:
        features, labels = extract_features(opened.model, test_images())
        scores["features"] = {"std": feature_std(features), "effective_rank": effective_rank(features[:2048])}
        scores["features"]["images"] = len(features)
    if {"knn", "linear"} & set(chosen):
        train = extract_features(opened.model, train_images())
        check_left(train[1], labels, train_images.left_out, bank)
        scores |= by_bank(opened, train, (features, labels), chosen, k)
    if "zero-shot" in chosen:
        names = class_names or [name.replace("_", " ") for name in class_names_of(queries)]
        task = ZeroShot(tuple, opened, names, templates)
        scores["zero-shot"] = task.score(opened.model, features, labels)
        scores["zero-shot"] |= {"classes": len(names), "templates": len(templates)}
    if "retrieval" in chosen:
        scores["retrieval"] = retrieve_rows(opened.model, opened, queries, batch_size=batch_size, limit=limit)
    if "finetune" in chosen:
        scores["finetune"] = finetune(opened, train_images, test_images, finetuning or FineTuning())
    told = {"model": model, "revision": opened.revision, "judged": queries.description}
    if bank:
        told |= {"bank": bank.description, "near_duplicates": train_images.left_out}
    if train is not None:
        told["evaluation"] = label_counts(labels, train[1], train_images.left_out)
    return told | {"scores": scores}


def possible_tasks(opened: OpenedModel, rows: Rows, banks: bool, class_names: Sequence[str] | None) -> list[str]:
    """The tasks that a model and data allow, but fine-tuning, which has to be asked for.

    Raises:
        HFContrastError: None.
    """
    named = rows.labeled and (rows.class_names is not None or class_names is not None)
    allowed = {
        "knn": rows.labeled and banks,
        "linear": rows.labeled and banks,
        "zero-shot": opened.reads_texts and named,
        "retrieval": opened.reads_texts and rows.captions is not None,
    }
    if not any(allowed.values()):
        texts = "has a text tower" if opened.reads_texts else "has no text tower"
        raise HFContrastError(
            f"nothing can be judged: {opened.name} {texts}, and {rows.description} has "
            f"{'labels' if rows.labeled else 'no labels'} and {'captions' if rows.captions else 'no captions'}; "
            "--label-column and --caption-column name columns that were not found, --bank-split a split for knn and linear"
        )
    return [task for task in TASKS if allowed.get(task)]


def check_tasks(opened: OpenedModel, rows: Rows, tasks: Sequence[str], class_names: Sequence[str] | None) -> None:
    """Refuses tasks that a model or data does not allow.

    Raises:
        HFContrastError: With the reason.
    """
    if unknown := [task for task in tasks if task not in TASKS]:
        raise HFContrastError(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    if _BY_TEXT & set(tasks):
        require_text_tower(opened.model)
    if "zero-shot" in tasks:
        class_names_of(rows, class_names)
    if (needy := sorted(_BY_BANK & set(tasks))) and not rows.labeled:
        raise DataError(
            f"{rows.description} has no labels, which {' and '.join(needy)} {'needs' if len(needy) == 1 else 'need'}: "
            "--label-column"
        )


def by_bank(
    opened: OpenedModel, bank: tuple[Tensor, Tensor], queries: tuple[Tensor, Tensor], tasks: Sequence[str], k: int
) -> dict[str, dict[str, Any]]:
    """Accuracies of the neighbors' vote and of the linear probe.

    Raises:
        DataError: No row of the one or the other has a label.
    """
    scores: dict[str, dict[str, Any]] = {}
    try:
        if "knn" in tasks:
            scores["knn"] = {"accuracy": knn_accuracy(*bank, *queries, k), "k": k}
        if "linear" in tasks:
            home = opened.model.device if opened.model.device.type == "cuda" else "cpu"  # others have no float64
            scores["linear"] = {"accuracy": linear_accuracy(*(part.to(home) for part in (*bank, *queries)))}
    except ValueError as error:
        raise DataError(str(error)) from error
    return scores


def finetune(opened: OpenedModel, train: Batches, tests: Batches, settings: FineTuning) -> dict[str, Any]:
    """The accuracy after fine-tuning a copy of the model.

    Raises:
        DataError: No row of the one or the other has a label.
    """
    try:
        accuracy = finetune_accuracy(opened.model, train, tests, settings)
    except ValueError as error:
        raise DataError(str(error)) from error
    chosen = {"epochs": settings.epochs, "label_share": settings.label_share}
    return {"accuracy": accuracy, **chosen, **({"layer_decay": settings.layer_decay} if settings.layer_decay else {})}


def table_rows(scores: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The figures as they are printed: task, what, value."""
    found = []
    for task, values in scores.items():
        for name, value in values.items():
            share = isinstance(value, float) and not name.endswith("rank") and name != "std"
            text = f"{100 * value:.1f} %" if share else f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
            found.append((task, name.replace("_", " "), text))
    return found


def print_report(report: dict[str, Any]) -> None:
    """Prints the table."""
    console = plain_console(soft_wrap=True)
    against = f" by {report['bank']}" if "bank" in report else ""
    if count := report.get("near_duplicates"):
        against += f", of which {count:,} near-duplicates of test images are left out"
    against += told_unlabeled(report.get("evaluation", {}))
    console.print(f"{report['model']}, judged on {report['judged']}{against}")
    table = Table("task", "figure", "value", box=SIMPLE_HEAD)
    for row in table_rows(report["scores"]):
        table.add_row(*row)
    console.print(table)
