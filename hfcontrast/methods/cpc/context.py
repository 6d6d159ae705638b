"""Context networks of CPC, whose contexts depend only on the rows above, and the linear predictions from them."""

from torch import Tensor, nn
from torch.nn import functional as F


class _MaskedBlock(nn.Module):
    """A residual block whose receptive field is a row, the row above, and the adjacent columns."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.narrow = nn.Conv2d(width, hidden, 1)
        self.across = nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1))
        self.above = nn.Conv2d(hidden, hidden, (2, 1))
        self.widen = nn.Conv2d(hidden, width, 1)

    def forward(self, grid: Tensor) -> Tensor:
        hidden = self.across(F.relu(self.narrow(grid)))
        hidden = self.above(F.pad(hidden, (0, 0, 1, 0)))  # a row of zeros on top: no information from below
        return grid + self.widen(F.relu(hidden))


class MaskedConvContext(nn.Module):
    """Masked convolutions: the receptive field of a context is its row and one row above per layer.

    The PixelCNN of Hénaff et al. (2020, arXiv:1905.09272, appendix A.2): residual blocks of convolutions 1x1, 1x3, 2x1 and 1x1
    without normalization.

    Args:
        width: Width D of the features and of the contexts.
        hidden: Width of the blocks' hidden layers.
        layers: Number of blocks; each extends the receptive field by one row and one column on either side.

    Attributes:
        width: Width of the contexts.
    """

    def __init__(self, width: int, hidden: int = 256, layers: int = 5):
        super().__init__()
        self.width = width
        self.blocks = nn.Sequential(*(_MaskedBlock(width, hidden) for _ in range(layers)))

    def forward(self, grid: Tensor) -> Tensor:
        """Maps features (B, rows, columns, D) to contexts (B, rows, columns, D)."""
        return F.relu(self.blocks(grid.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class GRUContext(nn.Module):
    """A recurrent network down each column: a context depends on its column, down to its row.

    Args:
        width: Width D of the features.
        hidden: Width of the contexts.
        layers: Recurrent layers.

    Attributes:
        width: Width of the contexts.
    """

    def __init__(self, width: int, hidden: int = 256, layers: int = 1):
        super().__init__()
        self.width = hidden
        self.gru = nn.GRU(width, hidden, layers, batch_first=True)

    def forward(self, grid: Tensor) -> Tensor:
        """Maps features (B, rows, columns, D) to contexts (B, rows, columns, hidden)."""
        columns = grid.transpose(1, 2)
        contexts, _ = self.gru(columns.flatten(0, 1))
        return contexts.unflatten(0, columns.shape[:2]).transpose(1, 2)


class FuturePredictor(nn.Module):
    """The networks of one direction: a context network, a projection of the targets, and a linear prediction for each step.

    Args:
        width: Width D of the features.
        context: Context network; None if the contexts come from elsewhere.
        context_width: Width of its contexts.
        target_dim: Width of the targets; None for the features themselves.
        steps: Number of steps that are predicted.
    """

    def __init__(self, width: int, context: nn.Module | None, context_width: int, target_dim: int | None, steps: int):
        super().__init__()
        self.context = context
        self.target = nn.Identity() if target_dim is None else nn.Linear(width, target_dim)
        self.predict = nn.ModuleList(nn.Linear(context_width, target_dim or width) for _ in range(steps))
