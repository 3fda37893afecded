"""A pool whose candidates are weighed at many strengths."""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow.draws import choices, integers, uniform
from alignflow.metrics.groups import normalize_by_group
from alignflow.strengths import StrengthRange

from .pool import Pool

__all__ = ["STRATA", "StrengthPool"]

STRATA = 16  # equal parts of the range, of each of which a batch has one strength


class StrengthPool(Pool):
    """Candidates of which a row of a batch is drawn by the weights at its strength.

    A batch has one strength from each of `STRATA` equal parts of the range, in turn. At each of
    them weights are normalized, and the rows that have it are drawn by them. A row has its
    strength beside its condition.

    Args:
        *args: As of `Pool`, of which `ess_fraction` is that at the largest strength.
        strengths: The range.
        **options: As of `Pool`.
    """

    groups: Tensor

    def __init__(self, *args: Any, strengths: StrengthRange, **options: Any):
        super().__init__(*args, **options)
        self.strengths = strengths
        groups = torch.zeros(len(self.state), dtype=torch.int64, device=self.reward.device)
        self.register_buffer("groups", groups)

    @torch.no_grad()
    def resample(self, n: int) -> TensorDict:
        return self.draw(n, n).select("data", "condition")

    @torch.no_grad()
    def draw(self, n: int, resampled: int = 0) -> TensorDict:
        """As `Pool.draw`, with `weight` (n,) at the strength of a row and, of all candidates of its
        condition at that strength, the `least_weight` (n,)."""
        self._grow_older()
        strengths, weight = self._weights()
        strata = torch.arange(n, device=weight.device) % STRATA
        rows = choices(weight, -(-n // STRATA), self.generator).T.flatten()[:n]
        even = integers(len(self.state), (n - resampled,), self.generator, rows.device)
        rows = torch.cat([even, rows[n - resampled :]])
        drawn = self._rows(rows)
        beside = TensorDict({"strength": strengths[strata].to(self.state)}, batch_size=n)
        if (condition := drawn.get("condition", None)) is not None:
            beside["condition"] = condition
        return drawn.update(
            {
                "condition": beside,
                "weight": weight[strata, rows].to(self.weight),
                "least_weight": self._least(weight)[strata, self.groups[rows]].to(self.weight),
            }
        )

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Strengths (STRATA,), and weights (STRATA, N) of mean 1 over each condition."""
        part = torch.arange(STRATA) + uniform((STRATA,), self.generator, device="cpu").double()
        lower, upper = self.strengths.lower, self.strengths.upper
        strengths = (lower + (upper - lower) * part / STRATA).to(self.reward.device)
        dropped = self.reward == -torch.inf
        log_weight = torch.where(dropped, -torch.inf, strengths[:, None] * self.reward)
        if self.groups.any():
            size = torch.bincount(self.groups)[self.groups]
            each = [normalize_by_group(row, self.groups) for row in log_weight]
            return strengths, size * torch.stack(each).exp()
        return strengths, len(self.state) * log_weight.softmax(1)

    def _least(self, weight: Tensor) -> Tensor:
        """The least weight of each condition, (STRATA, C), of weights (STRATA, N)."""
        least = weight.new_full((len(weight), int(self.groups.max()) + 1), torch.inf)
        return least.scatter_reduce_(1, self.groups.expand_as(weight), weight, "amin")

    def _weigh(self, groups: Tensor) -> None:
        self.groups.copy_(groups)
        super()._weigh(groups)
