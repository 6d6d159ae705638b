"""The names that transformers' configuration classes have, read from their sources: a mistyped one is told without importing torch."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_PLAIN = (["PreTrainedConfig"], ["BackboneConfigMixin", "PreTrainedConfig"])  # the mixin has no fields


@cache
def fields_in_source(model_type: str) -> frozenset[str] | None:
    """Names of the fields of an architecture's configuration, and their other names.

    Args:
        model_type: transformers' name of the architecture.

    Returns:
        The names, without those that every configuration has; None where its source does not say them plainly.
    """
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return None
    models = Path(spec.origin).parent / "models"
    try:
        name = _class_names(models / "auto" / "auto_mappings.py")[model_type]
        module = model_type.replace("-", "_")
        classes = _classes(models / module / f"configuration_{module}.py")
        bases = [ast.unparse(base) for base in classes[name].bases]
        return _names(classes[name]) if bases in _PLAIN else None
    except (OSError, SyntaxError, KeyError, ValueError):
        return None


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
