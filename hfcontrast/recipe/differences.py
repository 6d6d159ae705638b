"""What changes between two recipes, setting by setting."""

import json
from collections.abc import Mapping
from typing import Any


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns what changes between two nested mappings of settings, as lines like `optim.lr: 0.1 -> 0.2`."""
    lines = []
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            shown = (
                json.dumps(value, default=str) if not isinstance(value, str) else value for value in (before, after)
            )
            lines.append(f"{prefix}{name}: {' -> '.join(shown)}")
    return lines
