"""The names of timm's architectures, read from its source: importing timm takes seconds, and a recipe is checked before."""

import functools
import importlib.util
import re
import sys
from pathlib import Path

_ENTRY = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)


def is_architecture(name: str) -> bool:
    """Whether timm has an architecture of this name; a tag of released weights may stand behind it (``NAME.TAG``).

    Architectures that other packages have registered with timm count. timm is imported only where its source does not have the name.
    """
    if "timm" not in sys.modules and name.partition(".")[0] in _names_in_source():
        return True
    import timm

    return timm.is_model(name)


def architectures() -> list[str]:
    """The names of all architectures, in order."""
    if "timm" in sys.modules or not _names_in_source():
        import timm

        return timm.list_models()
    return sorted(_names_in_source())


@functools.cache
def _names_in_source() -> frozenset[str]:
    """Every model of timm is a function below ``@register_model``; empty where the source cannot be read."""
    spec = importlib.util.find_spec("timm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for folder in folders for file in (Path(folder) / "models").glob("*.py")]
    return frozenset(name for file in files for name in _ENTRY.findall(file.read_text(encoding="utf-8")))
