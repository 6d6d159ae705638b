"""Spherical k-means: against a plain version, and what it does with empty clusters."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.methods.deepcluster_v2.kmeans import spherical_kmeans


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(rows, count, seed, iterations):
    """Lloyd's algorithm row by row."""
    centroids = rows[torch.randperm(len(rows), generator=generator(seed))[:count]].clone()
    for _ in range(iterations):
        groups = [[] for _ in range(count)]
        for row in rows:
            groups[int((centroids @ row).argmax())].append(row)
        for number, group in enumerate(groups):
            if group:
                centroids[number] = F.normalize(torch.stack(group).mean(0), dim=0)
    return centroids, torch.tensor([int((centroids @ row).argmax()) for row in rows])


@pytest.mark.parametrize("tile", [7, 1000])
@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_it_is_lloyds_algorithm(iterations, tile):
    rows = F.normalize(torch.randn(50, 6), dim=1)
    centroids, nearest = spherical_kmeans(rows, 8, generator(), iterations, tile)
    expected, numbers = plain(rows, 8, 0, iterations)
    torch.testing.assert_close(centroids, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(nearest, numbers)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(8))


def test_groups_that_lie_apart_are_found():
    centers = torch.eye(3).repeat_interleave(20, dim=0)
    rows = F.normalize(centers + 0.05 * torch.randn(60, 3), dim=1)
    best = max(
        (spherical_kmeans(rows, 3, generator(seed)) for seed in range(5)), key=lambda found: agreement(rows, found)
    )
    for group in best[1].split(20):
        assert len(group.unique()) == 1
    assert len(best[1].unique()) == 3


def agreement(rows, found):
    centroids, nearest = found
    return float((rows * centroids[nearest]).sum())


def test_a_cluster_without_rows_stays_where_it_is():
    rows = torch.tensor([[1.0, 0.0]] * 5)  # all rows alike: the first centroid takes them all
    centroids, nearest = spherical_kmeans(rows, 3, generator())
    assert torch.equal(centroids, rows[:3]) and torch.equal(nearest, torch.zeros(5, dtype=torch.long))


def test_rows_that_cancel_out_leave_their_centroid_finite():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    centroids, _ = spherical_kmeans(rows, 1, generator())
    assert torch.isfinite(centroids).all() and centroids.norm() == 1


def test_half_precision_rows_are_clustered_in_full():
    rows = F.normalize(torch.randn(40, 8), dim=1).bfloat16()
    centroids, nearest = spherical_kmeans(rows, 5, generator())
    full = spherical_kmeans(rows.float(), 5, generator())
    assert centroids.dtype == torch.float32
    assert torch.equal(centroids, full[0]) and torch.equal(nearest, full[1])


@pytest.mark.parametrize("count", [0, 6])
def test_more_clusters_than_rows_are_refused(count):
    with pytest.raises(ValueError, match="clusters of 5 rows: expected 1 to 5"):
        spherical_kmeans(torch.randn(5, 3), count, generator())
