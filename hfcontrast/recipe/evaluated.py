"""Checks of a recipe's evaluators and built-in data, which do not depend on its other errors."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .checking import Problem
from .sections import EvalSection
from .wording import nearest

_BUILT_IN = Path(__file__).parents[1] / "data" / "builtin"


def readable_evaluators(given: Any, problems: list[Problem]) -> EvalSection | None:
    """What a recipe's `eval` says of evaluators, where other settings of it are wrong; None where that cannot be read either."""
    wrong = {problem.path[1] for problem in problems if problem.path[0] == "eval" and len(problem.path) > 1}
    names = [name for name in ("tasks", "finetune", "zero_shot") if isinstance(given, dict) and name in given]
    try:
        return EvalSection.model_validate_json(json.dumps({name: given[name] for name in names if name not in wrong}))
    except ValidationError:
        return None


def check_built_in_data(values: dict[str, Any]) -> list[Problem]:
    """Whether the built-in data sets that a recipe names are there: each is a module of hfcontrast/data/builtin."""
    known = [f"builtin/{file.stem}" for file in _BUILT_IN.glob("*.py") if not file.stem.startswith("_")]
    given = {name: values[name] for name in ("data", "eval") if isinstance(values.get(name), dict)}
    paths = {name: str(section.get("path")) for name, section in given.items()}
    return [
        Problem((name, "path"), f"there is no {path}{_nearest_built_in(path, known)}")
        for name, path in paths.items()
        if path.startswith("builtin/") and path not in known
    ]


def _nearest_built_in(path: str, known: list[str]) -> str:
    """The nearest of the built-in sets by what follows ``builtin/``, or all of them."""
    near = nearest(path.removeprefix("builtin/"), [name.removeprefix("builtin/") for name in known])
    return f"; did you mean 'builtin/{near}'?" if near else f"; built in are {', '.join(sorted(known))}"
