"""Colorization: the method, and the parts that only it uses."""

from .method import Colorization, ColorizationConfig

__all__ = ["Colorization", "ColorizationConfig"]
