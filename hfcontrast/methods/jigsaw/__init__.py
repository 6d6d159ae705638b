"""Jigsaw puzzles: the method, and the parts that only it uses."""

from .method import Jigsaw, JigsawConfig

__all__ = ["Jigsaw", "JigsawConfig"]
