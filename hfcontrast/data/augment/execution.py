"""Which form of the augmentation runs: loops that numba compiles, or plain torch; chosen, compiled and reported in one place."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any, Literal

from hfcontrast.progress import LongTask

# Sums in another order, multiply-add, reciprocals: results differ in the last bits only. There is no NaN in pixels.
FASTMATH = {"reassoc", "contract", "arcp", "nsz", "nnan"}


def compile_loop(fastmath: bool | set[str] = False) -> Callable[[Callable], Any]:
    """Decorates a function that numba compiles at its first call, and keeps compiled for later processes.

    Args:
        fastmath: As in ``numba.njit``.

    Raises:
        ImportError: There is no numba.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}

    def decorate(function: Callable) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no writable folder for the compiled code
            return numba.njit(**options)(function)

    return decorate


@cache
def loops(of: Literal["crops", "color"]) -> ModuleType | None:
    """The module of the compiled loops for crops or for color augmentation; None where numba cannot be imported."""
    try:
        return import_module(f"{__package__}.cpu_{of}")
    except ImportError:
        return None


def compile_loops(device_type: str) -> None:
    """Compiles the loops that a training on a device calls, or loads what an earlier process compiled.

    Args:
        device_type: The type of the training device.
    """
    if (crops := loops("crops")) is not None:
        with LongTask("compiling the loops of the augmentation, once for this installation"):
            crops.compile_loop_of_crops()
            if device_type == "cpu":
                loops("color").compile_loop_of_colors()


def describe(device_type: str, backend: str = "auto") -> str:
    """One line that says which form runs, and why.

    Args:
        device_type: The type of the training device.
        backend: As in ``ColorAugmentation``.
    """
    if loops("crops") is None:
        return "augmentation: plain torch, as numba cannot be imported (slower on a CPU: pip install numba)"
    compiled = f"loops compiled by numba {version('numba')}"
    if device_type != "cpu":
        return f"augmentation: crops by {compiled}, color by plain torch on {device_type}"
    if backend == "torch":
        return f"augmentation: crops by {compiled}, color by plain torch, as backend is 'torch'"
    return f"augmentation: crops and color by {compiled}"
