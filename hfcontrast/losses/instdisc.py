"""InstDisc's non-parametric softmax over a memory bank of all images (Wu et al., 2018)."""

from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import cross_log_sums


@full_precision
def instance_softmax(
    embeddings: Tensor, bank: Tensor, index: Tensor, temperature: float, tile: int | None = None
) -> Tensor:
    """The non-parametric softmax over all images of a data set (Wu et al., 2018, arXiv:1805.01978, eq. 2 and 3).

    With unit vectors v and a bank that holds one unit vector u for every image::

        mean over i of  -log( exp(v_i . u_index(i) / t) / sum_j exp(v_i . u_j / t) )

    Args:
        embeddings: (B, D); need not be normalized, nor the bank. A zero vector stays zero. Half precision is computed
            in float32.
        bank: (N, D); no gradient reaches it.
        index: (B,) int64, the images' rows in the bank.
        temperature: t > 0; 0.07 in the paper.
        tile: Rows and columns of the (B, N) similarities held at a time; None computes few of them whole and many in
            tiles. The value does not depend on it.

    Returns:
        Scalar >= 0; log N for vectors that are all alike, 0 for N = 1.

    Raises:
        ValueError: Shapes that do not fit, or a tile below 1.
    """
    if bank.ndim != 2 or index.ndim != 1 or embeddings.shape != (len(index), bank.shape[1]):
        raise ValueError(
            "the softmax over a bank takes embeddings (B, D), a bank (N, D) and an index (B,), got "
            f"{tuple(embeddings.shape)}, {tuple(bank.shape)} and {tuple(index.shape)}"
        )
    v, bank = F.normalize(embeddings, dim=-1), F.normalize(bank.detach(), dim=-1)
    denominators, _ = cross_log_sums(v, bank, temperature, tile=tile)
    return (denominators - (v * bank[index]).sum(dim=-1) / temperature).mean()
