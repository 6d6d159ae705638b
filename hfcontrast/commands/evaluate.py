"""`hfcontrast evaluate`: what any model's features are worth, by neighbors, a linear probe, prompts, retrieval and fine-tuning."""

import argparse
import json
import sys

from ..atomic import try_file, write_text
from ..errors import HFContrastError
from ..renamed import renamed
from .arguments import add_model_and_data, count, data_source, share

SUMMARY = "evaluate a model's features on data: kNN, linear, zero-shot, retrieval"


def __getattr__(name: str):
    return renamed(__name__, name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    add_model_and_data(parser)
    parser.add_argument(
        "--task",
        dest="tasks",
        action="append",
        choices=("knn", "linear", "zero-shot", "retrieval", "finetune"),
        help="can be repeated (default: all that the model and the data allow, but finetune, which takes minutes)",
    )
    parser.add_argument(
        "--split",
        help="split that is judged (default: test, else validation, else a folder of such a name beside one called train, else a "
        "fifth of the bank)",
    )
    parser.add_argument(
        "--bank-split",
        metavar="SPLIT",
        default="train",
        help="split of the neighbors, of the linear probe and of fine-tuning (default: train)",
    )
    parser.add_argument("--limit", metavar="N", type=count, help="rows of each split at most, spread evenly over it")
    parser.add_argument(
        "--epochs", metavar="N", type=count, help="with --task finetune: passes over the data (default: 30)"
    )
    parser.add_argument(
        "--layer-decay",
        metavar="FACTOR",
        type=share,
        help="with --task finetune: learning rate of each layer by that of the layer above, such as 0.75 (default: 1)",
    )
    parser.add_argument(
        "--label-share",
        metavar="SHARE",
        type=share,
        help="with --task finetune: share of each class that is used, at least one picture (default: 1)",
    )
    parser.add_argument("--k", metavar="N", type=count, default=20, help="neighbors that vote (default: 20)")
    parser.add_argument(
        "--template", metavar="TEXT", action="append", help="prompt with {} for a class's name (can be repeated)"
    )
    parser.add_argument(
        "--templates",
        metavar="NAME|FILE",
        help="prompts: plain, photo (default), seven, general, or a file with one a line",
    )
    parser.add_argument(
        "--classes", metavar="NAME", nargs="+", help="names of the classes, by label, instead of the data's own"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the figures there as JSON; - prints them instead of the table"
    )


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    if args.template and args.templates:
        raise HFContrastError("--template and --templates are both given: keep one of them")
    given = {"epochs": args.epochs, "label_share": args.label_share, "layer_decay": args.layer_decay}
    given = {name: value for name, value in given.items() if value is not None}
    if given and "finetune" not in (args.tasks or ()):
        raise HFContrastError(
            "--epochs, --label-share and --layer-decay are settings of fine-tuning: add --task finetune"
        )

    from ..evaluation.finetune import FineTuning
    from ..evaluation.templates import PHOTO, find_templates
    from .evaluate_model import evaluate_model, print_report
    from .models import quiet_libraries

    templates = args.template or (find_templates(args.templates) if args.templates else PHOTO)
    if args.json and args.json != "-":
        try:
            try_file(args.json)
        except OSError as error:
            raise HFContrastError(f"--json: {args.json} cannot be written: {error.strerror}") from error
    quiet_libraries()
    report = evaluate_model(
        args.model,
        data_source(args),
        tasks=args.tasks,
        split=args.split,
        bank_split=args.bank_split,
        limit=args.limit,
        k=args.k,
        finetuning=FineTuning(**given),
        templates=templates,
        class_names=args.classes,
        batch_size=args.batch_size,
        revision=args.revision,
        device=args.device,
        trust_remote_code=args.trust_remote_code,
    )
    text = json.dumps(report, indent=2) + "\n"
    if args.json == "-":
        sys.stdout.write(text)
        return
    print_report(report)
    if args.json:
        try:
            write_text(args.json, text)
        except OSError as error:
            raise HFContrastError(f"cannot write {args.json}: {error.strerror}") from error
