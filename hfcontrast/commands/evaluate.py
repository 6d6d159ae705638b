"""`hfcontrast evaluate`: any model's features on any data, by the evaluators that are installed."""

import argparse
import json
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..atomic import json_text, try_file, write_text
from ..errors import HFContrastError
from .arguments import add_model_and_data, count, data_source, output, share

SUMMARY = "evaluate a model's features on data: kNN, linear, zero-shot, retrieval"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    add_model_and_data(parser)
    parser.add_argument(
        "--task",
        metavar="NAME",
        dest="tasks",
        action="append",
        help="evaluator, such as knn or linear; all are listed below (can be repeated; default: all that the model and the data allow, "
        "but those that take minutes)",
    )
    parser.add_argument(
        "--set",
        metavar="TASK.KEY=VALUE",
        dest="settings",
        action="append",
        default=[],
        help="setting of an evaluator, as in a recipe's eval.tasks, such as knn.k=5 (can be repeated)",
    )
    parser.add_argument(
        "--split",
        help="split to evaluate on (default: test, else validation, else a folder of such a name beside one called train, else a "
        "fifth of the train split)",
    )
    parser.add_argument(
        "--train-split",
        metavar="SPLIT",
        help="split that classifiers (kNN, probe, fine-tuning) are fitted to (default: train)",
    )
    parser.add_argument("--bank-split", metavar="SPLIT", help=argparse.SUPPRESS)  # until 0.3
    parser.add_argument("--limit", metavar="N", type=count, help="rows of each split at most, drawn from all of them")
    short = parser.add_argument_group("short forms of settings")
    for flag, (_, _, metavar, kind, text) in _SHORT.items():
        short.add_argument(f"--{flag}", metavar=metavar, type=kind, help=text)
    short.add_argument(
        "--template", metavar="TEXT", action="append", help="prompt with {} for a class's name (can be repeated)"
    )
    short.add_argument(
        "--templates",
        metavar="NAME|FILE",
        help="prompts: plain, photo (default), seven, general, or a file with one a line",
    )
    short.add_argument(
        "--classes", metavar="NAME", nargs="+", help="names of the classes, by label, instead of the data's own"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=output,
        help="write the figures there as JSON; - prints them instead of the table",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    setattr(parser, "format_help", _with_evaluators(parser.format_help))  # noqa: B010


# Short forms of settings: whose, which, and how they are given.
_SHORT = {
    "k": ("knn", "k", "N", count, "of --task knn: neighbors (default: 20)"),
    "epochs": ("finetune", "epochs", "N", count, "with --task finetune: passes over the data (default: 30)"),
    "layer-decay": (
        "finetune",
        "layer_decay",
        "FACTOR",
        share,
        "with --task finetune: learning rate of each layer by that of the layer above, such as 0.75 (default: 1)",
    ),
    "label-share": (
        "finetune",
        "label_share",
        "SHARE",
        share,
        "with --task finetune: share of each class that is used, at least one image (default: 1)",
    ),
}


def _with_evaluators(format_help: Callable[[], str]) -> Callable[[], str]:
    """Adds the installed evaluators and their settings to a help text; they are imported only for it."""

    def format_all() -> str:
        from ..evaluation.registry import evaluators

        lines = ["", "evaluators and their settings:"]
        for name, evaluator in evaluators().items():
            lines += textwrap.wrap(f"{name}: {evaluator.summary()}", 100, initial_indent="  ", subsequent_indent="    ")
            for key, field in evaluator.settings_class.model_fields.items():
                text = f"{name}.{key}: {field.description} (default: {json.dumps(field.get_default(call_default_factory=True))})"
                lines += textwrap.wrap(text, 100, initial_indent="      ", subsequent_indent="        ")
        return format_help() + "\n".join(lines) + "\n"

    return format_all


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    if args.template and args.templates:
        raise HFContrastError("--template and --templates are both given: keep one of them")
    if args.bank_split and args.train_split:
        raise HFContrastError("--bank-split is called --train-split now, and both are given: keep --train-split")
    if args.bank_split:
        print(
            "warning: --bank-split is called --train-split now; the old name works until hfcontrast 0.3",
            file=sys.stderr,
        )
    if "finetune" not in (args.tasks or ()) and (args.epochs or args.label_share or args.layer_decay):
        raise HFContrastError(
            "--epochs, --label-share and --layer-decay are settings of fine-tuning: add --task finetune"
        )

    from .tasks import read_tasks

    settings = settings_of(args)
    read_tasks(args.tasks, settings)  # reports typos before the libraries are imported

    from ..nn.distributed import rank
    from .launched import joined_processes, of_first
    from .models import quiet_libraries

    quiet_libraries()
    with joined_processes(args.device):
        of_first(partial(_try_json, args.json))
        report = _report(args, settings)
        if rank() == 0:
            _write(report, args.json)


def _left_by_run(file: Path) -> bool:
    """Whether a file is the `result.json` of a run or the `table.json` of a comparison, and not a report of this command."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and bool({"recipe_hash", "runs"} & found.keys())


def _try_json(file: str | None) -> None:
    """Refuses a file that cannot be written, or that a run has left: `compare` would take other figures for the run's."""
    if file and file != "-":
        if _left_by_run(Path(file)):
            raise HFContrastError(f"--json: {file} is a file that a run or a comparison has left: choose another name")
        try:
            try_file(file)
        except OSError as error:
            raise HFContrastError(f"--json: {file} cannot be written: {error.strerror}") from error


def _report(args: argparse.Namespace, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The report of the evaluation that the arguments ask for."""
    from .evaluate_model import evaluate_model

    return evaluate_model(
        args.model,
        data_source(args),
        tasks=args.tasks,
        settings=settings,
        split=args.split,
        train_split=args.train_split or args.bank_split or "train",
        limit=args.limit,
        batch_size=args.batch_size,
        revision=args.revision,
        device=args.device,
        trust_remote_code=args.trust_remote_code,
    )


def _write(report: dict[str, Any], file: str | None) -> None:
    """Prints the report, as JSON where the file is ``-``, and writes it to the file."""
    from .evaluate_model import print_report

    text = json_text(report, indent=2) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    print_report(report)
    if file:
        try:
            write_text(file, text)
        except OSError as error:
            raise HFContrastError(f"cannot write {file}: {error.strerror}") from error


def settings_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings of evaluators that a command line gives, by their names; short forms of tasks that are not done have no effect.

    Raises:
        HFContrastError: One is not of the form TASK.KEY=VALUE, or templates cannot be read.
    """
    from ..evaluation.templates import check_templates, find_templates
    from ..recipe.reading import Document, apply_overrides

    document = Document({}, "command line")
    apply_overrides(document, args.settings)
    if wrong := [name for name, own in document.values.items() if not isinstance(own, dict)]:
        raise HFContrastError(f"--set {wrong[0]}=...: expected TASK.KEY=VALUE, such as knn.k=5")
    found: dict[str, dict[str, Any]] = document.values
    short = {(task, key): getattr(args, flag.replace("-", "_")) for flag, (task, key, *_) in _SHORT.items()}
    templates = args.template or (find_templates(args.templates) if args.templates else None)
    short["zero-shot", "templates"] = list(check_templates(templates)) if templates else None
    short["zero-shot", "classes"] = args.classes
    for (task, key), value in short.items():
        if value is not None and (not args.tasks or task in args.tasks):
            found[task] = {key: value, **found.get(task, {})}
    return found
