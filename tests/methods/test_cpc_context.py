"""What the context of a position sees."""

import pytest
import torch

from hfcontrast.methods.cpc.context import GRUContext, MaskedConvContext

ROWS, COLUMNS = 5, 4
NETWORKS = {
    "conv": lambda layers: MaskedConvContext(6, 48, layers),
    "gru": lambda layers: GRUContext(6, 8, layers),
}


def seen(network, row, column):
    """(ROWS, COLUMNS), true where the features have an influence on the context of a position."""
    grid = torch.randn(2, ROWS, COLUMNS, 6, dtype=torch.float64, requires_grad=True)
    contexts = network.double()(grid)
    assert contexts.shape == (2, ROWS, COLUMNS, network.width)
    weights = torch.randn(network.width, dtype=torch.float64)
    (contexts[0, row, column] * weights).sum().backward()
    assert (grid.grad[1] == 0).all()  # nothing of other images
    return (grid.grad[0] != 0).any(dim=-1)


@pytest.mark.parametrize("row, column", [(0, 0), (2, 1), (4, 3)])
@pytest.mark.parametrize("kind", NETWORKS)
def test_nothing_below_is_seen(kind, row, column):
    found = seen(NETWORKS[kind](5), row, column)
    assert not found[row + 1 :].any() and found[row, column] and found[: row + 1].any(dim=1).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_each_layer_of_masked_convolutions_sees_one_row_and_column_further(layers):
    found = seen(MaskedConvContext(6, 64, layers), 3, 0)
    expected = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    expected[3 - layers : 4, : layers + 1] = True
    assert torch.equal(found, expected)


def test_a_recurrent_context_sees_its_own_column():
    found = seen(GRUContext(6, 8), 3, 2)
    expected = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    expected[:4, 2] = True
    assert torch.equal(found, expected)


def test_contexts_have_their_width():
    assert MaskedConvContext(6, 8).width == 6 and GRUContext(6, 8).width == 8
