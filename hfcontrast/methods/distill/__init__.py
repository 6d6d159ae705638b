"""Distillation from a released encoder."""

from .method import Distill, DistillConfig

__all__ = ["Distill", "DistillConfig"]
