"""Losses as pure functions of tensors, for use with or without the rest of the framework."""

from .contrastive import nt_xent
from .distillation import dino_loss
from .precision import full_precision

__all__ = ["dino_loss", "full_precision", "nt_xent"]
