"""DINOv2: the method, and the parts that only it uses."""

from .config import DINOv2Config
from .method import DINOv2

__all__ = ["DINOv2", "DINOv2Config"]
