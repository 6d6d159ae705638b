"""MoCo: the method, and the parts that only it uses."""

from .method import MoCo, MoCoConfig, check_two_views

__all__ = ["MoCo", "MoCoConfig", "check_two_views"]
