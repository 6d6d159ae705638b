"""Modules that share the parameters of another module, with some parts replaced: a variant of an encoder to publish."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def share(module: M) -> M:
    """A module with the same submodules, parameters and buffers, which are the same objects: nothing is copied.

    What is set on it (another submodule, a parameter that becomes None) leaves the original as it is.
    """
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    for kind in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[kind] = dict(module.__dict__[kind])
    return twin
