"""The permutations of the jigsaw puzzle: orders of nine with the largest Hamming distances."""

import itertools

import numpy as np
import pytest
import torch

from hfcontrast.methods.jigsaw.permutations import permutation_set


def test_each_order_differs_from_those_before_it_as_much_as_any_could():
    everything = np.array(list(itertools.permutations(range(9))))
    orders = permutation_set(12).numpy()
    assert orders[0].tolist() == list(range(9))
    distances, taken = np.zeros(len(everything), dtype=int), np.zeros(len(everything), dtype=bool)
    for before, order in zip(orders, orders[1:]):
        distances += (everything != before).sum(axis=1)
        taken |= (everything == before).all(axis=1)
        own = int((everything == order).all(axis=1).argmax())
        assert not taken[own] and distances[own] == distances[~taken].max()


def test_a_thousand_orders_are_as_far_apart_as_the_papers():
    orders = permutation_set(1000)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(9).expand(1000, -1)) and orders.dtype == torch.long
    assert len(orders.unique(dim=0)) == 1000
    distances = (orders[:, None] != orders).sum(dim=2)[~torch.eye(1000, dtype=torch.bool)]
    assert distances.min() >= 2  # the paper reports the same, and a mean of 8.00
    assert distances.float().mean().item() == pytest.approx(8.0, abs=0.02)
    counts = torch.stack([torch.bincount(place, minlength=9) for place in orders.T])
    assert counts.max() - counts.min() <= 2  # every cell is shown at every place equally often
    assert torch.equal(permutation_set(1000), orders)
    permutation_set(1000).zero_()
    assert torch.equal(permutation_set(1000), orders)  # nobody's changes reach the next one


def test_a_long_set_has_no_order_twice():
    assert len(permutation_set(2500).unique(dim=0)) == 2500


def test_orders_are_found_where_weights_are_not_there_yet():
    with torch.device("meta"):
        assert permutation_set(5).device.type == "cpu"


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_set_must_have_a_sensible_size(count):
    with pytest.raises(ValueError, match=f"{count} permutations requested, expected a number from 1 to 10000"):
        permutation_set(count)
