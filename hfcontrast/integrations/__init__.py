"""Methods in loops that are not ours: transformers' ``Trainer``, Lightning, and any loop.

- :class:`~hfcontrast.training.step_calls.StepCalls`: what any loop calls around an optimizer step.
- :class:`~.trainer.MethodCallback`: a callback for transformers' ``Trainer``.
- :class:`~.lightning.LightningMethod`: a ``LightningModule`` around a method; needs the extra ``lightning``.

Each is imported when it is asked for.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "LightningMethod": "integrations.lightning",
    "MethodCallback": "integrations.trainer",
    "Progress": "methods.base",
    "StepCalls": "training.step_calls",
    "ViewDataset": "data.view_dataset",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"hfcontrast.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
