"""A pool of candidate endpoints with their rewards and the weights that make them the tilt."""

import math
import warnings
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import group_rows
from alignflow.data import batches
from alignflow.flow_map import FlowMap
from alignflow.reward_module import Reward, log_tilt

__all__ = ["Pool", "centered", "effective_share", "groups_of", "normalize"]

CHUNK = 1024
FEW = 0.01


class Pool(nn.Module):
    """Candidates of a frozen base, drawn and scored anew every so many batches.

    What it holds is module state and travels with checkpoints, so that a resumed run draws the same
    rows and scores nothing twice. It stays on the CPU, whatever the base is on.

    Args:
        base: What draws the candidates.
        reward: What scores them.
        strength: lambda of the weights exp(strength r).
        size: Candidates held.
        refresh_every: Batches between pools.
        steps: Jumps of the base that draw a candidate.
        generator: Source of all randomness.
        data: What to draw candidates from in place of the base; anything `pretrain` takes for data.
        condition: Conditions of the candidates, (C, ...), each of equally many; None for none.
    """

    state: Tensor
    condition: Tensor | None
    reward: Tensor
    log_weight: Tensor
    weight: Tensor
    gain: Tensor
    log_mean: Tensor
    share: Tensor
    age: Tensor

    def __init__(
        self,
        base: FlowMap,
        reward: Reward,
        strength: float,
        size: int,
        refresh_every: int,
        steps: int,
        generator: torch.Generator,
        data: Any = None,
        condition: Tensor | None = None,
    ):
        super().__init__()
        size = checks.count("pool", size, least=2)
        refresh_every = checks.count("refresh_every", refresh_every)
        steps = checks.count("candidate_steps", steps)
        # in a tuple, so that nothing of it becomes part of this module
        self._given = (base, reward, data, condition)
        self.strength, self.refresh_every, self.steps = strength, refresh_every, steps
        self.generator = generator
        if data is not None:
            # one row shows what conditions look like; the run's generator is left alone
            condition = batches(data, 1, base)(torch.Generator()).get("condition", None)
        empty = None if condition is None else condition.new_zeros(size, *condition.shape[1:]).cpu()
        self.register_buffer("state", torch.zeros(size, *base.event_shape))
        self.register_buffer("condition", empty)
        # weights of large strengths need the range of float64
        self.register_buffer("reward", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("log_weight", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(size))
        self.register_buffer("gain", torch.zeros(size))
        self.register_buffer("log_mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("share", torch.ones(()))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def of(self, data: Any) -> "Pool":
        """A pool like this one, of data in place of the base's samples."""
        base, reward, _, _ = self._given
        size, every = len(self.state), self.refresh_every
        return Pool(base, reward, self.strength, size, every, self.steps, self.generator, data)

    @torch.no_grad()
    def resample(self, n: int) -> TensorDict:
        """n rows drawn by their weights: `data` (n, *E) and perhaps `condition` (n, ...)."""
        self._grow_older()
        return self._rows(self._by_weight(n))

    @torch.no_grad()
    def draw(self, n: int, resampled: int = 0) -> TensorDict:
        """n rows drawn evenly, as `resample` gives them, with what each is worth.

        The last `resampled` of them are drawn by their weights.

        `weight` (n,) is e^{strength r} over its mean; `gain` (n,) is strength r less its mean, and
        -1 for a dropped candidate, as if it had no weight to first order. Means are over the
        candidates of one condition.
        """
        self._grow_older()
        rows = torch.randint(len(self.state), (n - resampled,), generator=self.generator)
        if resampled:
            rows = torch.cat([rows, self._by_weight(resampled)])
        return self._rows(rows).update({"weight": self.weight[rows], "gain": self.gain[rows]})

    def _by_weight(self, n: int) -> Tensor:
        return torch.multinomial(self.log_weight.exp(), n, True, generator=self.generator)

    def _grow_older(self) -> None:
        if self.age % self.refresh_every == 0:
            self.refresh()
        self.age += 1

    def _rows(self, rows: Tensor) -> TensorDict:
        batch = TensorDict({"data": self.state[rows]}, batch_size=len(rows))
        return batch if self.condition is None else batch.set("condition", self.condition[rows])

    @torch.no_grad()
    def refresh(self) -> None:
        """Draw, score and weigh a new pool.

        Raises:
            ValueError: If no candidate of some condition has a weight above 0.
        """
        base, reward, _, _ = self._given
        for rows in torch.arange(len(self.state)).split(CHUNK):
            state, condition = self._draw(rows)
            self.state[rows] = state.to(self.state)
            self.reward[rows] = reward.score(state, condition, base.decode).to(self.reward)
            if self.condition is not None and condition is not None:
                self.condition[rows] = condition.to(self.condition)
        groups = groups_of(self.condition, len(self.state))
        scaled = log_tilt(self.reward, self.strength)
        self.log_weight.copy_(normalize(scaled, groups))
        self.share.copy_(effective_share(self.log_weight, groups))
        self.log_mean.copy_(scaled.logsumexp(0) - math.log(len(scaled)))
        self.weight.copy_(torch.bincount(groups)[groups] * self.log_weight.exp())
        self.gain.copy_(centered(scaled, groups))
        if self.share < FEW:
            warnings.warn(
                f"at strength {self.strength:g} only {self.share.item():.2%} of {len(self.state)} "
                "candidates are effective: the tilt is learned from few samples. Enlarge the pool, "
                "lower the strength, or reach it in parts with levels=",
                stacklevel=2,
            )

    def _draw(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        base, _, data, condition = self._given
        if data is not None:
            batch = batches(data, len(rows), base)(self.generator).to(base.device)
            return batch.get("data"), batch.get("condition", None)
        if condition is not None:
            # in turn and not at random, so that conditions have equally many candidates
            condition = condition[rows % len(condition)].to(base.device)
        state = base.sample(len(rows), self.steps, condition, generator=self.generator)
        return state, condition


def normalize(log_weight: Tensor, groups: Tensor) -> Tensor:
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


def centered(scaled: Tensor, groups: Tensor) -> Tensor:
    """Values (N,) less the mean of their group (N,); -inf counts for nothing and becomes -1."""
    kept = scaled > -torch.inf
    total = _over(groups[kept], scaled[kept], "sum", 0.0)
    mean = total / torch.bincount(groups[kept], minlength=len(total)).clamp_min(1)
    return torch.where(kept, scaled - mean[groups], -1.0)


def effective_share(log_weight: Tensor, groups: Tensor) -> Tensor:
    """Effective sample size over size, (), of the group where it is least.

    Args:
        log_weight: Normalized within each group, (N,).
        groups: Index of each row's group, (N,).
    """
    size = torch.bincount(groups)
    return (1 / (_over(groups, (2 * log_weight).exp(), "sum", 0.0) * size)).min()


def _over(groups: Tensor, values: Tensor, reduce: str, start: float) -> Tensor:
    out = values.new_full((int(groups.max()) + 1,), start)
    return out.scatter_reduce_(0, groups, values, reduce)


def groups_of(condition: Tensor | None, n: int) -> Tensor:
    """Index of each candidate's condition, (n,), among the different ones."""
    if condition is None:
        return torch.zeros(n, dtype=torch.int64)
    groups = group_rows(condition, n)
    if groups.max() == n - 1:
        raise ValueError(
            f"each of the {n} candidates has a condition of its own, so there is nothing to weigh "
            "it against: enlarge the pool, or tune for fewer conditions"
        )
    return groups
