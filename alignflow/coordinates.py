r"""Relative coordinates of clusters of particles, without their center of mass.

An orthonormal basis :math:`H` of the mean-free subspace maps clusters (n, D) to (n-1, D) and back:

.. math:: y = H x, \qquad x = H^\top y, \qquad H H^\top = 1, \quad H \mathbf{1} = 0

The map is an isometry: standard normal noise stays so, and densities keep their values.
"""

from functools import cache

import torch
from torch import Tensor

__all__ = ["from_relative", "mean_free", "to_relative"]


def to_relative(x: Tensor) -> Tensor:
    """Relative coordinates (N, n-1, D) of clusters (N, n, D), whatever their means."""
    _check_clusters(x, least=2)
    return _basis(x.shape[1], x.dtype, x.device) @ x


def from_relative(y: Tensor) -> Tensor:
    """Clusters (N, n, D) of mean 0, of relative coordinates (N, n-1, D); lengths are preserved."""
    _check_clusters(y, least=1)
    return _basis(y.shape[1] + 1, y.dtype, y.device).mT @ y


def mean_free(x: Tensor) -> Tensor:
    """Clusters (N, n, D) about the mean of their particles."""
    return x - x.mean(1, keepdim=True)


def _check_clusters(x: Tensor, least: int) -> None:
    if x.ndim != 3 or x.shape[1] < least:
        raise ValueError(f"clusters must be of shape (N, n, D), got {tuple(x.shape)}")


@cache
@torch.inference_mode(False)  # what is cached serves a gradient too
def _basis(particles: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Helmert's matrix (n-1, n), orthonormal: each row is the first k averaged, minus the next."""
    rows = torch.tril(torch.ones(particles - 1, particles, dtype=torch.float64))
    count = torch.arange(1, particles, dtype=torch.float64)
    rows[torch.arange(particles - 1), torch.arange(1, particles)] = -count
    return (rows / (count * (count + 1)).sqrt()[:, None]).to(device, dtype)
