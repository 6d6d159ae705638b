"""Checks of a method when its class is created."""

import warnings

from torch import nn

from ...errors import PluginError
from ...view import View, check_views
from .by_setting import BySetting
from .hooks import misfitting, misspelled

MODEL_TYPE_PREFIX = "hfcontrast_"


def called(cls: type) -> str:
    """The name of a method in messages."""
    return f"method {cls.__module__}.{cls.__qualname__}"


def without_source(method: nn.Module, name: str, source: str) -> str:
    """The message about a teacher whose source does not exist."""
    modules = ", ".join(child for child, _ in method.named_children() if child not in method.teachers)
    return (
        f"{called(type(method))}: teachers has {name!r} follow {source!r}, which is not a module of it when post_init() is called; "
        f"its modules are {modules}"
    )


def check_modules(method: nn.Module, names: tuple[str, ...], hook: str) -> None:
    """Checks that the names passed to a hook are paths of modules.

    Raises:
        PluginError: One of them is not.
    """
    for name in names:
        try:
            method.get_submodule(name)
        except AttributeError as error:
            modules = ", ".join(child for child, _ in method.named_children())
            raise PluginError(
                f"{called(type(method))}: {hook}({name!r}) names no module of it; its modules are {modules}"
            ) from error


def check_declaration(cls: type, base: type, base_config: type) -> None:
    """Checks a method when its class is created.

    Args:
        cls: The method.
        base: ``Method``.
        base_config: ``MethodConfig``.

    Raises:
        PluginError: ``config_class``, ``model_type``, ``views`` or a required method is missing or wrong.
    """
    where = called(cls)
    config = getattr(cls, "config_class", None)
    if not (isinstance(config, type) and issubclass(config, base_config) and config is not base_config):
        raise PluginError(f"{where}: config_class is {config!r}, expected a subclass of hfcontrast.MethodConfig")
    kind = config.model_type
    if not isinstance(kind, str) or not kind.startswith(MODEL_TYPE_PREFIX) or kind == MODEL_TYPE_PREFIX:
        raise PluginError(
            f"{where}: {config.__name__}.model_type is {kind!r}, expected a name that starts with "
            f"'{MODEL_TYPE_PREFIX}', so that it cannot clash with a model of transformers"
        )
    for name in ("embed", "objective"):
        if getattr(cls, name) is getattr(base, name):
            raise PluginError(f"{where} does not define {name}(); a method needs embed() and objective()")
    if not (isinstance(cls.views, tuple) and cls.views and all(isinstance(view, View) for view in cls.views)):
        raise PluginError(f"{where}: views is {cls.views!r}, expected a tuple with at least one hfcontrast.View")
    for name in ("min_images", "min_images_normalized"):
        declared = getattr(cls, name)
        counts = [*declared.values.values(), declared.otherwise] if isinstance(declared, BySetting) else [declared]
        if not all(isinstance(count, int) and count >= 1 for count in counts):
            raise PluginError(f"{where}: {name} is {declared!r}, expected a number of images, 1 or more")
        if isinstance(declared, BySetting) and declared.setting not in config.__dataclass_fields__:
            raise PluginError(
                f"{where}: {name} depends on {declared.setting!r}, which is not a setting of {config.__name__}"
            )
    try:
        check_views(cls.views)
    except ValueError as error:
        raise PluginError(f"{where}: {error}") from error


def check_written(cls: type, base: type) -> None:
    """Checks for common mistakes of authors: before a training, not when the class is created or a model is loaded.

    Args:
        cls: The method.
        base: ``Method``.

    Raises:
        PluginError: An attribute that names modules or settings has the wrong form, or a hook is misspelled or cannot be called.
    """
    where = called(cls)
    _check_names(cls, where)
    for problem in misfitting(cls, base):
        raise PluginError(f"{where}: {problem}")
    for problem, certain in misspelled(cls, base):
        if certain:
            raise PluginError(f"{where}: {problem}")
        warnings.warn(f"{where}: {problem}", stacklevel=3)


def _check_names(cls: type, where: str) -> None:
    teachers = cls.teachers
    texts = isinstance(teachers, dict) and all(isinstance(name, str) for pair in teachers.items() for name in pair)
    if not texts:
        raise PluginError(
            f"{where}: teachers is {teachers!r}, expected names of copies and of the modules that they follow, such as "
            '{"teacher": "encoder"}'
        )
    if wrong := [
        name for name, source in teachers.items() if name == source or name == "encoder" or hasattr(cls, name)
    ]:
        raise PluginError(f"{where}: teachers has a copy called {wrong[0]!r}, a name that is taken: choose another")
    for name in ("constant_lr", "compiled_modules", "data_statistics"):
        value = getattr(cls, name)
        if isinstance(value, property):  # depends on the settings
            continue
        if isinstance(value, str) or not all(isinstance(item, str) for item in value):
            raise PluginError(f"{where}: {name} is {value!r}, expected a tuple of names, such as ('predictor',)")
