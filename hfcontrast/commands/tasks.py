"""The evaluators that a command line asks for, with their settings; checked without importing torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import HFContrastError, RecipeError
from ..evaluation.protocol import Task
from ..evaluation.registry import evaluators, get_evaluator
from ..recipe.tasks import checked

Chosen = dict[str, Task]


def read_tasks(tasks: Sequence[str] | None, settings: Mapping[str, Mapping[str, Any]]) -> Chosen:
    """The evaluators that are asked for, or that are done where they are possible, with their settings.

    Raises:
        HFContrastError: One is not installed, or settings are wrong or those of one that is not evaluated.
    """
    known = evaluators()
    for name in [*(tasks or ()), *settings]:
        if name not in known:
            known[name] = get_evaluator(name)  # which says why it cannot be used
    if unread := [name for name in settings if tasks and name not in tasks]:
        raise HFContrastError(f"settings of {unread[0]} are given, which is not evaluated: add --task {unread[0]}")
    names = [name for name in known if name in (tasks or ())] or [
        name for name, one in known.items() if (one.when_possible and not one.beside) or name in settings
    ]
    found = {}
    for name in names:
        own, problems = checked(known[name].settings_class, dict(settings.get(name, {})))
        if problems:
            lines = (f"{'.'.join((name, *path))}: {text}" for path, text in problems)
            raise RecipeError("\n".join(lines))
        found[name] = Task(known[name], own)
    return found
