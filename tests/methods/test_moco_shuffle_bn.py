"""Shuffle-BN: rows come back in order, and their batch statistics are those of the group that they were shuffled into."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hfcontrast.errors import RecipeError
from hfcontrast.methods.moco.shuffle_bn import in_groups, in_shuffled_groups, own_groups
from hfcontrast.nn import rank, shared_generator, synchronize_batch_norm

ROWS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
WITHOUT_BN, WITH_BN = nn.Sequential(nn.Linear(3, 3), nn.Tanh()), nn.Sequential(nn.BatchNorm1d(3))


def normalize(rows):
    return F.batch_norm(rows, None, None, training=True)


def by_hand(groups):
    """Each group of the shuffled rows normalized by itself, every row back in its place."""
    order = torch.randperm(len(ROWS), generator=shared_generator(1, 2)).tolist()
    size, result = len(ROWS) // groups, torch.empty_like(ROWS)
    for start in range(0, len(ROWS), size):
        rows = order[start : start + size]
        result[rows] = normalize(ROWS[rows])
    return result


@pytest.mark.parametrize("groups", [1, 3, 5])
def test_without_batch_statistics_shuffling_changes_nothing(groups):
    expected = WITHOUT_BN(ROWS)
    torch.testing.assert_close(in_groups(WITHOUT_BN, ROWS, groups), expected)
    shuffled = in_shuffled_groups(WITHOUT_BN, ROWS, groups, shared_generator(1))
    torch.testing.assert_close(shuffled, expected.detach())
    assert not shuffled.requires_grad


def test_one_process_normalizes_shuffled_groups():
    torch.testing.assert_close(in_shuffled_groups(normalize, ROWS, 3, shared_generator(1, 2)), by_hand(3))


def test_groups_are_consecutive_without_shuffling():
    torch.testing.assert_close(in_groups(normalize, ROWS, 2), torch.cat([normalize(ROWS[:6]), normalize(ROWS[6:])]))


def test_more_groups_than_rows_are_as_many_as_rows():
    torch.testing.assert_close(in_groups(WITHOUT_BN, ROWS[:2], 5), WITHOUT_BN(ROWS[:2]))


@pytest.mark.parametrize("groups", [1, 2])
def test_processes_exchange_their_rows(on_processes, groups):
    def run(_):
        own = ROWS.chunk(2)[rank()]
        plain = in_shuffled_groups(lambda rows: rows, own, groups, shared_generator(1, 2))
        normalized = in_shuffled_groups(normalize, own, groups, shared_generator(1, 2))
        return plain, normalized, normalize(own)

    results = on_processes(run)
    for number, (plain, normalized, unshuffled) in enumerate(results):
        assert torch.equal(plain, ROWS.chunk(2)[number])  # every row comes back to its process and its place
        torch.testing.assert_close(normalized, by_hand(2 * groups).chunk(2)[number])
        assert (normalized - unshuffled).abs().max() > 0.05  # other statistics than the process's own batch has


def test_rows_in_another_memory_format_come_back_in_order(on_processes):
    images = torch.randn(4, 1, 3, 2, 2, generator=torch.Generator().manual_seed(0))

    def run(_):
        own = images.chunk(2)[rank()].permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        return in_shuffled_groups(lambda rows: rows.flatten(2), own, 1, shared_generator(1, 2))

    assert torch.equal(torch.cat(on_processes(run)), images.flatten(2))


def test_groups_of_one_process():
    assert own_groups(WITHOUT_BN, 4) is None  # no statistics
    assert own_groups(WITH_BN, None) is None and own_groups(WITH_BN, 1) is None  # no other group
    assert own_groups(WITH_BN, 4) == 4


def test_groups_of_two_processes(on_processes):
    def run(_):
        shared = synchronize_batch_norm(nn.Sequential(nn.BatchNorm1d(3)))
        found = [own_groups(WITHOUT_BN, 4), own_groups(WITH_BN, None), own_groups(WITH_BN, 6), own_groups(shared, None)]
        errors = []
        for layers, groups in ((WITH_BN, 3), (WITH_BN, 1), (shared, 4)):
            with pytest.raises(RecipeError) as caught:
                own_groups(layers, groups)
            errors.append(str(caught.value))
        return found, errors

    for found, errors in on_processes(run):
        assert found == [None, 1, 3, None]
        assert all("a multiple of the 2 processes" in error for error in errors[:2])
        assert "train.sync_batchnorm: false" in errors[2]
