"""Texts of users are printed unchanged, in lines and in tables."""

import re
from pathlib import Path

from rich.table import Table

import hfcontrast
from hfcontrast.console import plain_console


def test_markup_and_emoji_codes_are_text(capsys):
    text = "runs [/b] [bold]x[/] :dog: 'quoted'"
    table = Table(text, title=text)
    table.add_row(text)
    console = plain_console(width=100)
    console.print(text)
    console.print(table)
    assert capsys.readouterr().out.count(text) == 4


def test_nothing_is_printed_by_another_console():
    package = Path(hfcontrast.__file__).parent
    found = [path.name for path in package.rglob("*.py") if re.search(r"\bConsole\(", path.read_text(encoding="utf-8"))]
    assert found == ["console.py"]
