"""Spherical k-means: clusters unit vectors by their inner products (DeepCluster v2; Dhillon and Modha, 2001)."""

import torch
from torch import Tensor


@torch.no_grad()
def spherical_kmeans(
    rows: Tensor, count: int, generator: torch.Generator, iterations: int = 10, tile: int = 8192
) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations on the sphere, from rows drawn at random.

    Every row is assigned to the centroid with the largest inner product; every centroid becomes the normalized sum of its rows; a centroid
    without rows (or whose rows cancel out) is unchanged. Sums are matrix products and not scattered additions, whose order is
    nondeterministic on a GPU: equal rows and generators give equal clusters on all processes.

    Args:
        rows: (N, D) unit vectors.
        count: Clusters K, at most N.
        generator: Draws the first centroids; on the CPU.
        iterations: Number of iterations.
        tile: Rows whose (tile, K) inner products are held at a time.

    Returns:
        Centroids (K, D), float32 unit vectors, and for each row the index of its centroid, (N,) int64.

    Raises:
        ValueError: There are fewer rows than clusters.
    """
    if not 1 <= count <= len(rows):
        raise ValueError(f"{count} clusters of {len(rows)} rows: expected 1 to {len(rows)}")
    rows = rows.float()
    centroids = rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]
    for _ in range(iterations):
        sums = torch.zeros_like(centroids)
        for part in rows.split(tile):
            products = part @ centroids.T
            nearest = products.argmax(dim=1, keepdim=True)
            members = products.zero_().scatter_(1, nearest, 1.0)
            sums.addmm_(members.T, part)
        lengths = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
        centroids = torch.where(lengths > 1e-6, sums / lengths.clamp_min(1e-6), centroids)
    return centroids, torch.cat([(part @ centroids.T).argmax(dim=1) for part in rows.split(tile)])
