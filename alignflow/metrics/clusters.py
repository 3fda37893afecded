r"""Distances between distributions of clusters, up to permutations of particles and rotations.

.. math:: W_2^2 = \min_\pi \sum_{ij} \pi_{ij}\, d(x_i, y_j)^2, \qquad
    d(x, y)^2 = |x|^2 + |y|^2 - 2 \lVert x^\top P y \rVert_*

P renames the particles of y, best for the two clusters as they lie; the nuclear norm is the best
rotation or reflection after that (Kabsch).

Source: the released evaluation of iDEM (2402.06121), which Adjoint Sampling and ASBS share.
"""

import torch
from torch import Tensor

from .estimate import Estimate, check_samples, jackknife

__all__ = ["cluster_wasserstein"]


def cluster_wasserstein(x: Tensor, y: Tensor) -> Estimate:
    """Wasserstein-2 distance of clusters, at a cost of N^2 assignments.

    Args:
        x: Samples (N, n, D), free of their means.
        y: Reference (N, n, D), likewise.

    Raises:
        ValueError: If they are not as many clusters of one shape.
    """
    check_samples(x, y)
    if x.ndim != 3 or x.shape != y.shape:
        raise ValueError(
            "as many samples as references are needed, both (N, n, D), "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    from scipy.optimize import linear_sum_assignment  # late, for its import takes long

    x, y = x.detach().double().cpu(), y.detach().double().cpu()
    cost = torch.stack([_square_distances(cluster, y) for cluster in x])

    def distance(rows: Tensor, columns: Tensor) -> float:
        part = cost[rows][:, columns]
        return part[linear_sum_assignment(part.numpy())].mean().clamp_min(0).sqrt().item()

    index = torch.arange(len(x))
    return jackknife(distance, index, index)


def _square_distances(cluster: Tensor, others: Tensor) -> Tensor:
    """d^2 of one cluster (n, D) to others (N, n, D), (N,)."""
    from scipy.optimize import linear_sum_assignment

    lengths = torch.cdist(cluster, others).numpy()
    names = torch.stack([torch.from_numpy(linear_sum_assignment(each)[1]) for each in lengths])
    renamed = torch.take_along_dim(others, names[:, :, None], dim=1)
    overlap = torch.linalg.svdvals(cluster.mT @ renamed).sum(1)
    return cluster.square().sum() + others.square().sum((1, 2)) - 2 * overlap
