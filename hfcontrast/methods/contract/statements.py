"""Which names the statements of a module bind, and which they may change: functions over its syntax tree."""

import ast


def bound(item: ast.stmt) -> set[str]:
    """The names that a statement binds plainly."""
    if isinstance(item, ast.ClassDef):
        return {item.name}
    if isinstance(item, ast.ImportFrom):
        return {alias.asname or alias.name for alias in item.names}
    targets = item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def stored(item: ast.stmt) -> set[str]:
    """All names that a statement may bind or change: ``X = 1`` within an ``if``, ``X.views = ...``, ``change(X)``."""
    if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {item.name}
    found = bound(item)
    for part in ast.walk(item):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store | ast.Del):
            found.add(part.id)
        elif isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
            found |= {name.id for name in ast.walk(part) if isinstance(name, ast.Name)}
        elif isinstance(part, ast.Call) and isinstance(item, ast.Expr):
            found |= {name.id for name in ast.walk(item) if isinstance(name, ast.Name)}
        elif isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(part.name)
        elif isinstance(part, ast.alias):
            found.add((part.asname or part.name).partition(".")[0])
    return found


def changed(item: ast.stmt) -> set[str]:
    """The names whose attributes a function sets: ``X.views = ...`` within it."""
    if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    changed = [
        part.value
        for part in ast.walk(item)
        if isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del)
    ]
    return {name.id for value in changed for name in ast.walk(value) if isinstance(name, ast.Name)}


def handed_over(item: ast.stmt) -> set[str]:
    """The names that an assignment hands to functions, which may change what they stand for: ``done = fix(X)``."""
    if not isinstance(item, ast.Assign | ast.AnnAssign):
        return set()
    calls = [part for part in ast.walk(item) if isinstance(part, ast.Call)]
    given = [value for call in calls for value in (*call.args, *(keyword.value for keyword in call.keywords))]
    return {name.id for value in given for name in ast.walk(value) if isinstance(name, ast.Name)}


def without_encoder(item: ast.stmt) -> ast.stmt:
    looks = any("backbone_config" in (getattr(part, "attr", ""), getattr(part, "value", "")) for part in ast.walk(item))
    if not (isinstance(item, ast.FunctionDef) and looks):
        return item
    kept = [ast.Expr(ast.Constant(text))] if (text := ast.get_docstring(item)) else [ast.Pass()]
    return ast.FunctionDef(item.name, item.args, kept, item.decorator_list, item.returns)
