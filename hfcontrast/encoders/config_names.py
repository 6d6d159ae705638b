"""transformers' names of architectures and of their settings, read from its source: typos are reported without importing torch."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_TABLE = "CONFIG_MAPPING_NAMES"
_PLAIN = (["PreTrainedConfig"], ["BackboneConfigMixin", "PreTrainedConfig"])  # the mixin has no fields


@cache
def model_types_in_source() -> frozenset[str] | None:
    """Names of all architectures that transformers itself has; None where its source does not say them plainly."""
    models = _models()
    if models is None:
        return None
    found: set[str] = set()
    try:
        for file in ("auto_mappings.py", "configuration_auto.py"):
            path = models / "auto" / file
            for statement in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
                found |= _added_types(statement)
    except (OSError, SyntaxError, ValueError):
        return None
    return frozenset(found) or None


def _added_types(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module puts into the table of architectures.

    Raises:
        ValueError: It changes the table in a way that is not known here.
    """
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if _TABLE not in map(ast.unparse, targets):
            return set()
    elif not (isinstance(statement, ast.Expr) and ast.unparse(statement).startswith(f"{_TABLE}.")):
        return set()
    call = statement.value
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in ("OrderedDict", "dict", f"{_TABLE}.update"):
        raise ValueError(ast.unparse(statement))
    found: set[str] = set()
    for part in [*call.args, *(keyword.value for keyword in call.keywords)]:
        if ast.unparse(part) != _TABLE:  # which is copied, with what it has already
            found |= set(dict(ast.literal_eval(part)))
    return found


@cache
def fields_in_source(model_type: str) -> frozenset[str] | None:
    """Names of the fields of an architecture's configuration, and their other names.

    Args:
        model_type: transformers' name of the architecture.

    Returns:
        The names, without those that every configuration has; None where its source does not say them plainly.
    """
    models = _models()
    if models is None:
        return None
    try:
        name = _class_names(models / "auto" / "auto_mappings.py")[model_type]
        module = model_type.replace("-", "_")
        classes = _classes(models / module / f"configuration_{module}.py")
        bases = [ast.unparse(base) for base in classes[name].bases]
        return _names(classes[name]) if bases in _PLAIN else None
    except (OSError, SyntaxError, KeyError, ValueError):
        return None


def _models() -> Path | None:
    spec = find_spec("transformers")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "models"


@cache
def _class_names(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    pairs = [node for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    names = [[getattr(part, "value", None) for part in pair.elts] for pair in pairs]
    return {key: value for key, value in names if isinstance(key, str) and str(value).endswith("Config")}


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {item.name: item for item in tree.body if isinstance(item, ast.ClassDef)}


def _names(item: ast.ClassDef) -> frozenset[str]:
    names: set[str] = set()
    for statement in item.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.add(statement.target.id)
        elif isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "attribute_map":
            names |= set(ast.literal_eval(statement.value))
    return frozenset(names)
