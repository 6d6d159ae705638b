"""What is checked of a method when its class is made."""

from ..errors import PluginError
from ..view import View, check_views

MODEL_TYPE_PREFIX = "hfcontrast_"


def check_declaration(cls: type, base: type, base_config: type) -> None:
    """Checks what can be known of a method when its class is made.

    Args:
        cls: The method.
        base: ``Method``.
        base_config: ``MethodConfig``.

    Raises:
        PluginError: ``config_class``, ``model_type``, ``views`` or a required method is missing or wrong.
    """
    where = f"method {cls.__module__}.{cls.__qualname__}"
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
        if not (isinstance(count := getattr(cls, name), int) and count >= 1):
            raise PluginError(f"{where}: {name} is {count!r}, expected a number of images, 1 or more")
    try:
        check_views(cls.views)
    except ValueError as error:
        raise PluginError(f"{where}: {error}") from error
