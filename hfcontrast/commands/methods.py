"""`hfcontrast methods`: the installed methods, or one of them with its paper, settings and views."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..methods.base import Method
    from ..methods.contract.source import Declared

SUMMARY = "list the installed methods, or explain one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="explain this method: its paper, settings and views")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    from dataclasses import asdict

    from ..atomic import json_text
    from ..methods import registry

    if args.name is not None:
        found = describe_method(args.name, registry.declaration(args.name))
        print(json_text(found, indent=2)) if args.json else _print_method(found)
        return
    entries = registry.installed().values()
    if args.json:
        print(json_text([asdict(entry) for entry in entries], indent=2))
        return
    rows = [[entry.name, entry.distribution or "", entry.version or "", entry.problem or ""] for entry in entries]
    columns = ["method", "distribution", "version", "problem"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    _print_table(columns, rows)
    print("hfcontrast methods NAME explains one of them.")


def describe_method(name: str, method: "type[Method] | Declared") -> dict[str, Any]:
    """Returns what `hfcontrast methods NAME` shows, as plain data.

    Args:
        name: The name that recipes call it.
        method: Its class, or what its source declares.

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
