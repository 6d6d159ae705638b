"""What a step of a method returns."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class MethodOutput(ModelOutput):
    """What a step of a method returns.

    Args:
        loss: Scalar; the mean over processes is the loss of the global batch.
        metrics: Scalars to log, by name.
        state: Detached tensors for ``after_step``: keys to enqueue, the teacher's batch statistics.
        embeddings: (B, ...) detached embeddings for diagnostics.
    """

    loss: Tensor | None = None
    metrics: dict[str, Tensor] | None = None
    state: dict[str, Tensor] | None = None
    embeddings: Tensor | None = None
