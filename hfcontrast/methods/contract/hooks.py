"""Checks of a method's hooks: misspelled names, and signatures that the base class cannot call."""

import difflib
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

# What authors define: functions and attributes of the class.
HOOKS = (
    "embed",
    "objective",
    "before_step",
    "frozen",
    "after_step",
    "after_loading",
    "export_encoder",
    "visualize",
    "compute_data_statistics",
)
ATTRIBUTES = (
    "config_class",
    "views",
    "teachers",
    "constant_lr",
    "compiled_modules",
    "collapse_advice",
    "min_images",
    "min_images_normalized",
    "data_statistics",
)
_CLOSE = 0.85


def misspelled(cls: type, base: type) -> Iterator[tuple[str, bool]]:
    """Messages about names of a class that are close to one of the contract and that nothing in the class uses, each with
    whether the value would fit that name (if not, it may be a helper of the author).

    Args:
        cls: The method.
        base: ``Method``.
    """
    own = [kind for kind in cls.__mro__ if issubclass(kind, base) and kind is not base]
    used = {name for kind in own for value in vars(kind).values() for name in _names_in(value)}
    for name, value, defined in ((name, value, vars(kind)) for kind in own for name, value in vars(kind).items()):
        if name.startswith("_") or hasattr(base, name) or name in used:
            continue
        candidates = HOOKS if callable(_plain(value)) else ATTRIBUTES
        near = difflib.get_close_matches(name, [word for word in candidates if word not in defined], 1, _CLOSE)
        if near:
            sentence = f"defines {name}, which nothing calls or reads; did you mean {near[0]}?"
            yield f"{sentence} If not, give it another name", _would_fit(value, near[0], base)


def _would_fit(value: Any, hook: str, base: type) -> bool:
    """Whether a value fits a name of the contract: a function with as many arguments, an attribute of the same type."""
    expected = getattr(base, hook, None)
    if hook in ATTRIBUTES:
        return expected is None or isinstance(value, type(expected))
    given, wanted = (
        [p for p in inspect.signature(_plain(function)).parameters.values() if p.kind is not p.VAR_KEYWORD]
        for function in (value, inspect.getattr_static(base, hook))
    )
    by_name = hook in ("embed", "objective", "visualize")  # followed by batch entries
    return len(given) > len(wanted) if by_name else len(given) == len(wanted)


def misfitting(cls: type, base: type) -> Iterator[str]:
    """Messages about functions of a class that cannot be called as the base class calls them."""
    if not _takes(cls.__init__, 2):
        yield f"__init__{inspect.signature(cls.__init__)} cannot be called as __init__(config), as loading a saved model does"
    for name, arguments in (("embed", 1), ("objective", 2)):
        step = getattr(cls, name)
        given = "embed(pixel_values=...)" if name == "embed" else "objective(embeddings, labels=...)"
        signature = inspect.signature(step)
        if not _takes(step, arguments, partly=True):
            yield f"{name}{signature} cannot be called as {given}"
        for parameter in list(signature.parameters.values())[arguments:]:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                yield f"{name}{signature} takes {parameter.name} by position only, and batch entries are passed by name"
    for name in HOOKS[2:]:
        own, expected = getattr(cls, name), inspect.signature(getattr(base, name))
        names = [p.name for p in expected.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        if not _takes(own, len(names), partly=name == "visualize"):
            given = ", ".join(word for word in names if word != "self")
            yield f"{name}{inspect.signature(own)} cannot be called as {name}({given})"


def _takes(function: Any, arguments: int, partly: bool = False) -> bool:
    signature = inspect.signature(function)
    try:
        (signature.bind_partial if partly else signature.bind)(*range(arguments))
    except TypeError:
        return False
    return True


def _plain(value: Any) -> Any:
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


def _names_in(value: Any) -> set[str]:
    """Names of attributes and globals that a function or a property uses."""
    functions = [value.fget, value.fset] if isinstance(value, property) else [_plain(value)]
    return {name for f in functions if isinstance(f, FunctionType) for name in _names_of(f.__code__)}


def _names_of(code: CodeType) -> set[str]:
    texts = {constant for constant in code.co_consts if isinstance(constant, str)}  # of getattr(self, "...")
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *texts, *(name for part in inner for name in _names_of(part))}
