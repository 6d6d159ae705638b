"""Full precision for losses: exponentials and logarithms do not survive bf16."""

from functools import wraps

import torch
from torch import Tensor


def full_precision(loss):
    """Decorator: runs a loss outside autocast, with its half-precision arguments turned into float32."""

    def upcast(value):
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    @wraps(loss)
    def wrapped(*args, **kwargs):
        device = next((value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return loss(*map(upcast, args), **{name: upcast(value) for name, value in kwargs.items()})

    return wrapped
