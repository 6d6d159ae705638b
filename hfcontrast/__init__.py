"""hfcontrast: self-supervised and contrastive training of encoders that load everywhere in the Hugging Face world.

Importing it makes ``AutoConfig`` and ``AutoModel`` know all installed methods; each is imported when it is asked for.
"""

from importlib import import_module

from .auto_classes import know_methods
from .old_modules import find_old_modules

__version__ = "0.1.0"

_HOMES = {
    "Method": "methods.base",
    "MethodConfig": "methods.base",
    "MethodOutput": "methods.base",
    "Phase": "methods.base",
    "Frozen": "methods.base",
    "BySetting": "methods.base",
    "Progress": "methods.base",
    "View": "view",
    "get_method": "methods.registry",
    "load_recipe": "recipe",
    "register": "methods.registry",
    "HFContrastError": "errors",
}
_ROOMS = ("encoders", "losses", "nn", "testing")

__all__ = sorted(_HOMES) + list(_ROOMS)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


find_old_modules()
know_methods()
