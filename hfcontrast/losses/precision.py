"""Full precision for losses: exponentials and logarithms do not survive bf16."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _upcast(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


def full_precision(loss: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorator: runs a loss outside autocast, with its half-precision arguments turned into float32."""

    @wraps(loss)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        given: tuple[object, ...] = (*args, *kwargs.values())
        device = next((value.device.type for value in given if isinstance(value, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return loss(*map(_upcast, args), **{name: _upcast(value) for name, value in kwargs.items()})

    return wrapped
