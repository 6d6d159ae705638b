"""Paths of this machine in texts that are uploaded, and the names that stand in their place."""

import json as JSON
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from ..recipe import Recipe
from ..recipe.published import local_name, public_name, published_values

_SHORT = 2  # parts of a path that is no place of its own, such as /root or /data: only whole paths are looked for there
_REST = r"(?:/[^\s\"'`,;:)\]}<>|]*)?"  # what may follow the folder in a text


class LocalPaths:
    """Replaces paths of this machine: those of a run's recipe by the names that its card has for them, others by their last part.

    Args:
        folder: The run's folder.
        recipe: Its recipe, with its paths; None where that is not known.

    Attributes:
        count: How many were replaced.
    """

    def __init__(self, folder: Path, recipe: Recipe | None):
        self.count = 0
        self._named = dict(published_values(recipe).paths) if recipe is not None else {}
        own = folder.resolve()
        roots = [Path.home(), Path.cwd(), own, own.parent, Path(tempfile.gettempdir())]
        found = {str(root) for root in roots if len(root.parts) > _SHORT or root == Path.home() != Path("/")}
        longest = sorted(found, key=len, reverse=True)
        # Not within a longer name or an address: `/homework` and `https://host/home/me` are none.
        self._pattern = re.compile(rf"(?<![\w./:~-])(?:{'|'.join(map(re.escape, longest))})(?![\w-]){_REST}")

    def replaced(self, text: str, json: bool = False) -> str:
        """A text without such paths.

        Args:
            text: The text.
            json: Whether it is JSON, of which any value that is a path to something here is replaced.
        """
        for path, name in sorted(self._named.items(), key=lambda one: -len(one[0])):
            self.count += text.count(path)
            text = text.replace(path, name)
        text = self._pattern.sub(self._name, text)
        if not json:
            return text
        try:
            values = JSON.loads(text)
        except ValueError:
            return text
        before = self.count
        found = self._values(values)
        return text if self.count == before else JSON.dumps(found, indent=2) + "\n"

    def _name(self, found: re.Match[str]) -> str:
        self.count += 1
        return public_name(found[0]) if os.path.exists(found[0]) else local_name(found[0])

    def _values(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._values(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._values(inner) for inner in value]
        if isinstance(value, str) and os.path.isabs(value) and value.count(os.sep) > 1 and os.path.lexists(value):
            self.count += 1
            return public_name(value)
        return value
