"""A first-in first-out queue of embeddings: MoCo's negatives, NNCLR's support set."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .distributed import gather


class Queue(nn.Module):
    """The newest K embeddings, unit vectors, oldest overwritten first (MoCo, He et al., 2019, section 3.2).

    It starts with random unit vectors, as in the authors' code, and is part of the method's state: saved, resumed, equal on all
    processes.

    Args:
        size: Number of rows K.
        dim: Width D.

    Attributes:
        rows: (K, D) float32 unit vectors.
        filled: Number of rows enqueued so far, up to K.
    """

    rows: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("rows", torch.empty(size, dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.rows.copy_(F.normalize(torch.randn(self.rows.shape), dim=1))
        self.pointer.zero_()
        self.filled.zero_()

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Enqueues the keys of all processes in the order of their ranks; call it in ``after_step``, after the loss.

        Args:
            keys: (B, D) of this process; normalized here.
        """
        keys = F.normalize(gather(keys.detach()).float(), dim=1)
        size, count = len(self.rows), len(keys)
        kept = keys[-size:]
        places = (self.pointer + count - len(kept) + torch.arange(len(kept), device=keys.device)) % size
        self.rows[places] = kept.to(self.rows.dtype)
        self.pointer.add_(count).remainder_(size)
        self.filled.add_(count).clamp_(max=size)
