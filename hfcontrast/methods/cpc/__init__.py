"""CPC: the method, and the parts that only it uses."""

from .method import CPC, CPCConfig

__all__ = ["CPC", "CPCConfig"]
