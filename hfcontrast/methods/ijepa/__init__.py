"""I-JEPA: the method, and the parts that only it uses."""

from .method import IJEPA, IJEPAConfig

__all__ = ["IJEPA", "IJEPAConfig"]
