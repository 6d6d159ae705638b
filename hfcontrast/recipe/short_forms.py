"""Short forms of `eval.tasks` given beside `eval.tasks`: which takes precedence, and where they contradict each other."""

from typing import Any

from .checking import Problem
from .reading import COMMAND_LINE, Document, KeyPath
from .tasks import SHORT_FORMS
from .wording import show

# Those whose value can be compared with what they are short for.
_COMPARED = ("knn_k", "knn_temperature", "linear_probe", "finetune")


def join_short_forms(document: Document) -> list[Problem]:
    """Removes a short form that is given beside what it is short for, or the other from a place of less precedence.

    The command line takes precedence over the recipe, and the recipe over the file that recipes share.

    Args:
        document: The recipe, with its overrides.

    Returns:
        The two of one place that have different values.
    """
    section = document.values.get("eval")
    if not isinstance(section, dict) or not isinstance(section.get("tasks"), dict):
        return []
    problems = []
    for short in _COMPARED:
        *outer, key = SHORT_FORMS[short].split(".")
        path = ("eval", *outer, key)
        holder: Any = section["tasks"] if outer == ["tasks"] else section["tasks"].get(outer[1])
        if not isinstance(holder, dict) or key not in holder or section.get(short) is None:
            continue
        ranks = _rank(document, ("eval", short)), _rank(document, path)
        if section[short] is False and ranks[0] <= ranks[1]:
            continue  # as without it
        if ranks[0] > ranks[1]:
            del holder[key]
        elif ranks[0] == ranks[1] and not _agree(section[short], holder[key]):
            text = (
                f"is {show(section[short])}, and {'.'.join(path)}, which it is short for, {show(holder[key])}: keep one"
            )
            problems.append(Problem(("eval", short), text))
            del section[short]
        else:
            if ranks[0] == ranks[1] and isinstance(section[short], dict) and isinstance(holder[key], dict):
                holder[key] = {**section[short], **holder[key]}
            elif ranks[0] == ranks[1] and isinstance(section[short], dict):
                holder[key] = section[short]  # beside true, or null
            del section[short]
    return problems


def _rank(document: Document, path: KeyPath) -> int:
    """2 of the command line, 1 of the recipe, 0 of the file that it shares with others."""
    place = document.place(path)
    if place == COMMAND_LINE or any(over[: len(path)] == path for over in document.overridden):
        return 2
    return int(place == document.source or place.rpartition(":")[0] == document.source)


def _agree(short: Any, given: Any) -> bool:
    if short is True:
        return given is not False
    if isinstance(short, dict):
        return given in (None, True) or (
            isinstance(given, dict) and all(given[name] == short[name] for name in short if name in given)
        )
    return short == given
