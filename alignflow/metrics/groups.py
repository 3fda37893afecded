"""Weights within groups of rows: those of one condition are compared with each other."""

from typing import Any

import torch
from torch import Tensor

from alignflow.conditions import group_rows

__all__ = [
    "center_by_group",
    "ess_fraction",
    "group_means",
    "groups_of",
    "kl_from_uniform",
    "normalize_by_group",
]


def groups_of(condition: Any, n: int) -> Tensor:
    """Index of each row's condition among the different ones, (n,); 0 without any.

    Raises:
        ValueError: If each row has a condition of its own.
    """
    if condition is None:
        return torch.zeros(n, dtype=torch.int64)
    groups = group_rows(condition, n)
    if groups.max() == n - 1:
        raise ValueError(
            f"each of the {n} candidates has a condition of its own, so there is nothing to weigh "
            "it against: enlarge the pool, or tune for fewer conditions"
        )
    return groups


def normalize_by_group(log_weight: Tensor, groups: Tensor) -> Tensor:
    """Log-weights (N,) whose weights sum to 1 within each group (N,) of rows.

    Raises:
        ValueError: If all weights of a group are 0.
    """
    top = _over(groups, log_weight, "amax", -torch.inf)
    if (top == -torch.inf).any():
        raise ValueError(
            "all candidates of a condition have weight 0: their rewards are -inf or were dropped "
            "as invalid, so there is no tilt to learn"
        )
    shifted = log_weight - top[groups]
    return shifted - _over(groups, shifted.exp(), "sum", 0.0).log()[groups]


def center_by_group(log_weight: Tensor, groups: Tensor) -> Tensor:
    """Values (N,) less the mean of their group (N,).

    Where a value is -inf it counts for nothing and becomes -1: no weight, to first order.
    """
    finite = log_weight > -torch.inf
    total = _over(groups[finite], log_weight[finite], "sum", 0.0)
    mean = total / torch.bincount(groups[finite], minlength=len(total)).clamp_min(1)
    return torch.where(finite, log_weight - mean[groups], -1.0)


def ess_fraction(log_weight: Tensor, groups: Tensor) -> Tensor:
    """Effective sample size over size, (), of the group where it is least.

    Args:
        log_weight: Normalized within each group, (N,).
        groups: Index of each row's group, (N,).
    """
    size = torch.bincount(groups)
    return (1 / (_over(groups, (2 * log_weight).exp(), "sum", 0.0) * size)).min()


def kl_from_uniform(log_weight: Tensor, groups: Tensor) -> Tensor:
    """KL of the weights to equal ones, in nats, (), of the group where it is largest.

    Args:
        log_weight: Normalized within each group, (N,).
        groups: Index of each row's group, (N,).
    """
    size = torch.bincount(groups)[groups]
    terms = log_weight.exp() * (log_weight + size.log())
    return _over(groups, torch.where(log_weight > -torch.inf, terms, 0.0), "sum", 0.0).max()


def group_means(values: Tensor, groups: Tensor) -> Tensor:
    """The mean over a row's group, of values (N, ...), in each row of it."""
    count = torch.bincount(groups).to(values)
    total = values.new_zeros(len(count), *values.shape[1:]).index_add_(0, groups, values)
    return (total / count.reshape(-1, *[1] * (values.ndim - 1)))[groups]


def _over(groups: Tensor, values: Tensor, reduce: str, start: float) -> Tensor:
    out = values.new_full((int(groups.max()) + 1,), start)
    return out.scatter_reduce_(0, groups, values, reduce)
