"""The memory bank: one embedding of every image of the data set (Wu et al., 2018; PIRL; CMC; DeepCluster v2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .distributed import gather


class MemoryBank(nn.Module):
    """One unit vector per image, a moving average of the embeddings of the image.

    It starts with random unit vectors, as Wu et al. (2018, arXiv:1805.01978, section 3.1) do, and is part of the method's
    state: saved, resumed, equal on all processes.

    Args:
        images: Number of images N.
        dim: Width D.
        momentum: Weight of the old row in an update; 0 overwrites, 0.5 is Wu et al.'s (section 3.3).

    Attributes:
        rows: (N, D) float32 unit vectors.
    """

    rows: Tensor

    def __init__(self, images: int, dim: int, momentum: float = 0.5):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", torch.empty(images, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.rows.copy_(F.normalize(torch.randn(self.rows.shape), dim=1))

    @torch.no_grad()
    def update(self, index: Tensor, embeddings: Tensor) -> None:
        """Updates the rows of the images of all processes; call it in ``after_step``, after the loss.

        Args:
            index: (B,) positions of this process's images in the data set.
            embeddings: (B, D); normalized here, as are the updated rows.
        """
        index, embeddings = gather(index), gather(embeddings.detach())
        new = F.normalize(embeddings.float(), dim=1)
        rows = F.normalize(self.momentum * self.rows[index].float() + (1 - self.momentum) * new, dim=1)
        self.rows[index] = rows.to(self.rows.dtype)
