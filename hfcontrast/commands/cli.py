"""The command line: `hfcontrast COMMAND`. What a command needs is imported only when that command runs."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import HFContrastError, PluginError, memory_sentence, out_of_memory
from .arguments import add_embed, add_evaluate
from .arguments import count as _count
from .arguments import seconds as _seconds

if TYPE_CHECKING:
    from ..methods.base import Method


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Args:
        summary: One line for `hfcontrast --help`.
        add_arguments: Declares its arguments on a parser.
        run: Does the work; it imports what it needs itself, and returns the exit status (None: 0).
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]


def add_recipe_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Declares RECIPE [key.path=value ...], as every command that reads a recipe has it."""
    parser.add_argument("recipe", metavar="RECIPE", nargs="?" if optional else None, help="the YAML file")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*", help="settings that go before the file's")


def _methods_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="explain this method: its paper, settings and views")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _methods(args: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from ..methods import registry

    if args.name:
        found = describe_method(args.name, registry.get_method(args.name))
        print(json.dumps(found, indent=2)) if args.json else _print_method(found)
        return
    entries = registry.installed().values()
    if args.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    rows = [[entry.name, entry.distribution or "", entry.version or "", entry.problem or ""] for entry in entries]
    columns = ["method", "distribution", "version", "problem"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    _print_table(columns, rows)
    print("hfcontrast methods NAME explains one of them.")


def describe_method(name: str, method: "type[Method]") -> dict[str, Any]:
    """Returns what `hfcontrast methods NAME` shows, as plain data.

    Args:
        name: The name that recipes call it.
        method: Its class.

    Returns:
        name, summary (the first paragraph of the class's docstring), settings (name, type, default, meaning, and
        validity: what is checked of it), and views: for each its name, count, size, and the fields that are not View's
        default in all of them.
    """
    import inspect
    from dataclasses import fields

    from ..methods.registry import method_fields

    paragraph = (inspect.getdoc(method) or "").split("\n\n")[0]
    settings = [
        {
            "name": field.name,
            "type": field.type_text,
            "default": field.default,
            "meaning": field.meaning,
            "validity": field.validity,
        }
        for field in method_fields(method)
    ]
    changed = [
        field.name
        for field in fields(method.views[0])
        if field.name in ("name", "count", "size")
        or any(getattr(view, field.name) != field.default for view in method.views)
    ]
    views = [{name: getattr(view, name) for name in changed} for view in method.views]
    return {"name": name, "summary": " ".join(paragraph.split()), "settings": settings, "views": views}


def _print_method(found: dict[str, Any]) -> None:
    from ..console import plain_console

    plain_console().print(f"{found['name']}: {found['summary']}\n")
    rows = [[item["name"], item["type"], _yaml(item["default"]), item["meaning"]] for item in found["settings"]]
    _print_table(["setting", "type", "default", "meaning"], rows, title="method:")
    names = [name for name in found["views"][0] if name != "name"]
    rows = [[name, *(_yaml(view[name]) for view in found["views"])] for name in names]
    _print_table(["field", *(view["name"] for view in found["views"])], rows, title="views:")


def _yaml(value: Any) -> str:
    """Returns a value as a recipe would have it."""
    import json

    return value if isinstance(value, str) else json.dumps(value, default=str)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ..console import plain_console

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0)  # names are to be copied
    for row in rows:
        table.add_row(*row)
    plain_console().print(table)  # a type such as list[int] is text and no style


def _schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", help="write it there; the default is to print it")


def _schema(args: argparse.Namespace) -> None:
    import json

    from ..atomic import write_text
    from ..methods import registry
    from ..recipe import json_schema

    methods = {}
    for name in registry.installed():
        try:
            methods[name] = registry.get_method(name)
        except PluginError as error:
            print(f"warning: left out of the schema: {error}", file=sys.stderr)
    text = json.dumps(json_schema(methods), indent=2) + "\n"
    if args.output is None:
        print(text, end="")
        return
    try:
        write_text(args.output, text)
    except OSError as error:
        raise HFContrastError(f"cannot write {args.output}: {error.strerror}") from error


def _train(args: argparse.Namespace) -> int | None:
    from ..run import main as run

    return run([args.recipe, *args.overrides])


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, optional=True)
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="how long the rounds go on (default: 60)")
    parser.add_argument(
        "--against",
        action="append",
        metavar="KEY=VALUE",
        help="measure the recipe with this override too, in the same rounds (can be repeated)",
    )
    parser.add_argument(
        "--losses", action="store_true", help="measure the losses instead of a recipe: time and memory of two forms"
    )
    parser.add_argument("--batch", type=_count, help="with --losses: images (default: 2048 on a CPU, 8192 on a GPU)")
    parser.add_argument("--dim", type=_count, default=128, help="with --losses: width of the embeddings (default: 128)")


def _bench(args: argparse.Namespace) -> None:
    # Where options come first, argparse takes the recipe for an override.
    given = [*([args.recipe] if args.recipe else []), *args.overrides]
    if args.losses:
        if given or args.against:
            raise HFContrastError(
                "bench --losses measures no recipe: leave out the recipe, its overrides and --against"
            )
        from ..benchmarks.losses import bench_losses

        bench_losses(args.batch, args.dim, args.seconds)
        return
    if not given:
        raise HFContrastError("bench needs a RECIPE to measure; --losses measures the losses without one")
    from ..benchmarks.step import bench
    from ..recipe import load_recipe

    recipe, *overrides = given
    bench(load_recipe(recipe, overrides), args.seconds, args.against)


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("items", metavar="RECIPE", nargs="+", help="the YAML files, one for each method")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*", help="settings that go before every file's")
    parser.add_argument(
        "--output", metavar="FOLDER", default="outputs/compare", help="where to (default: outputs/compare)"
    )
    parser.add_argument("--seeds", metavar="N", nargs="+", default=[], help="train each with these; mean ± deviation")


def _compare(args: argparse.Namespace) -> int:
    from ..comparison.compare import compare
    from ..comparison.plan import split_arguments

    seeds = [int(item) for item in args.seeds if item.isdecimal()]
    behind_seeds = [item for item in args.seeds if not item.isdecimal()]
    recipes, overrides = split_arguments([*args.items, *behind_seeds, *args.overrides])
    return compare(recipes, overrides, args.output, seeds)


def _evaluate(args: argparse.Namespace) -> None:
    from .evaluate import main as evaluate

    evaluate(args)


def _embed(args: argparse.Namespace) -> None:
    from .embed import main as embed

    embed(args)


COMMANDS = {
    "methods": Command("list the installed methods, or explain one", _methods_arguments, _methods),
    "schema": Command("print the JSON schema of recipes, for editors", _schema_arguments, _schema),
    "train": Command("train by a recipe, as python -m hfcontrast.run does", add_recipe_arguments, _train),
    "compare": Command("train several recipes alike, into one table", _compare_arguments, _compare),
    "evaluate": Command("judge a model's features on data: kNN, linear, zero-shot, retrieval", add_evaluate, _evaluate),
    "embed": Command("write embeddings of images and texts to parquet", add_embed, _embed),
    "bench": Command("measure where a recipe's time goes, or the losses", _bench_arguments, _bench),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = argparse.ArgumentParser("hfcontrast", description="Self-supervised learning of image encoders.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(subparsers.add_parser(name, help=command.summary, description=command.summary))
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line; overrides may stand before and after options."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if hasattr(args, "overrides"):  # argparse gives up on the second group of them
        args.overrides += [item for item in rest if not item.startswith("-")]
        rest = [item for item in rest if item.startswith("-")]
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 2 for an error that has been explained on stderr."""
    args = parse(argv)
    try:
        return COMMANDS[args.command].run(args) or 0
    except HFContrastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        print(
            f"error: {memory_sentence(error, 'lower --batch-size, or the sizes that are asked for')}", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
