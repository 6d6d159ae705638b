"""Relative patch location: the method, and the parts that only it uses."""

from .method import NEIGHBORS, RelativePatch, RelativePatchConfig

__all__ = ["NEIGHBORS", "RelativePatch", "RelativePatchConfig"]
