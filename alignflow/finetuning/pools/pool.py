"""A pool of candidate endpoints with their rewards and the weights that make them the tilt."""

import math
import warnings
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import as_given, condition_rows, count_rows, take_rows
from alignflow.data import batches
from alignflow.draws import choices, integers
from alignflow.flow_map import FlowMap
from alignflow.metrics.groups import (
    center_by_group,
    ess_fraction,
    groups_of,
    normalize_by_group,
)
from alignflow.modes import evaluating
from alignflow.modules import set_unregistered
from alignflow.tilt import Tilt

__all__ = ["Pool"]

CHUNK = 1024
FEW = 0.01
RENAMED = {"gain": "centered", "share": "ess_fraction"}  # of checkpoints, old to new


class Pool(nn.Module):
    """Candidates of a frozen base, drawn and scored anew every so many batches.

    What it holds is module state and travels with checkpoints, so that a resumed run draws the same
    rows and scores nothing twice. States are on the base's device; what rows are drawn by is on the
    generator's.

    Args:
        base: What draws the candidates.
        tilt: What scores and weighs them.
        size: Number of candidates.
        refresh_every: Batches between pools.
        steps: Jumps of the base that draw a candidate.
        generator: Source of all randomness.
        data: What to draw candidates from in place of the base; anything `pretrain` takes for data,
            with conditions that are numbers.
        condition: Conditions of the candidates, rows (C, ...), each of equally many; None for none.
    """

    base: FlowMap
    tilt: Tilt
    data: Any
    conditions: Any
    state: Tensor
    condition: Tensor | None
    reward: Tensor
    log_weight: Tensor
    weight: Tensor
    centered: Tensor
    log_mean: Tensor
    ess_fraction: Tensor
    age: Tensor

    def __init__(
        self,
        base: FlowMap,
        tilt: Tilt,
        size: int,
        refresh_every: int,
        steps: int,
        generator: torch.Generator,
        data: Any = None,
        condition: Any = None,
    ):
        super().__init__()
        size = checks.count("pool", size, least=2)
        self.refresh_every = checks.count("refresh_every", refresh_every)
        self.steps = checks.count("candidate_steps", steps)
        set_unregistered(self, base=base, tilt=tilt, data=data, conditions=condition)
        self.generator = generator
        device, source = base.device, generator.device
        dtype = torch.promote_types(base.dtype, torch.float32)
        state = torch.zeros(size, *base.event_shape, dtype=dtype, device=device)
        self.register_buffer("state", state)
        self.register_buffer("condition", None)
        if data is not None:
            self._hold_conditions_of_data()
        # weights of large strengths need the range of float64
        self.register_buffer("reward", torch.zeros(size, dtype=torch.float64, device=source))
        self.register_buffer("log_weight", torch.zeros(size, dtype=torch.float64, device=source))
        self.register_buffer("weight", torch.zeros(size, device=device))
        self.register_buffer("centered", torch.zeros(size, device=device))
        self.register_buffer("log_mean", torch.zeros((), dtype=torch.float64, device=device))
        self.register_buffer("ess_fraction", torch.ones((), device=device))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_as_renamed)

    def _hold_conditions_of_data(self) -> None:
        # one row shows what conditions look like; the run's generator is left alone
        shown = as_given(batches(self.data, 1, self.base)(torch.Generator()).get("condition", None))
        if shown is None:
            return
        if not isinstance(shown, Tensor):
            raise ValueError(
                "a pool of data takes conditions that are numbers, got "
                f"{checks.shown(shown[0] if isinstance(shown, list) else shown)}"
            )
        size = len(self.state)
        self.condition = shown.new_zeros(size, *shown.shape[1:], device=self.base.device)

    @torch.no_grad()
    def resample(self, n: int) -> TensorDict:
        """n rows drawn by their weights: `data` (n, *E) and perhaps `condition` (n, ...)."""
        self._grow_older()
        return self._rows(self._by_weight(n))

    @torch.no_grad()
    def draw(self, n: int, resampled: int = 0) -> TensorDict:
        """n rows drawn evenly, as `resample` gives them, with their weights.

        The last `resampled` of them are drawn by their weights.

        `weight` (n,) is e^{strength r} over its mean; `centered` (n,) is strength r less its mean,
        and -1 for a dropped candidate, as if it had no weight to first order. Means are over the
        candidates of one condition.
        """
        self._grow_older()
        source = self.generator.device
        rows = integers(len(self.state), (n - resampled,), self.generator, source)
        if resampled:
            rows = torch.cat([rows, self._by_weight(resampled)])
        drawn, rows = self._rows(rows), rows.to(self.weight.device)
        return drawn.update({"weight": self.weight[rows], "centered": self.centered[rows]})

    def _by_weight(self, n: int) -> Tensor:
        return choices(self.log_weight.exp(), n, self.generator)

    def _grow_older(self) -> None:
        if self.age % self.refresh_every == 0:
            self.refresh()
        self.age += 1

    def _rows(self, rows: Tensor) -> TensorDict:
        batch = TensorDict({"data": self.state[rows.to(self.state.device)]}, batch_size=len(rows))
        if self.condition is not None:
            batch["condition"] = self.condition[rows.to(self.condition.device)]
        elif self.conditions is not None:
            batch["condition"] = self._conditions_of(rows)
        return batch

    def _conditions_of(self, rows: Tensor) -> Any:
        """Conditions of candidates, by their numbers: in turn, so that each has equally many."""
        return take_rows(self.conditions, rows % (count_rows(self.conditions) or 1))

    @torch.no_grad()
    def refresh(self) -> None:
        """Draw, score and weigh a new pool.

        Raises:
            ValueError: If no candidate of some condition has a weight above 0.
        """
        everyone = torch.arange(len(self.state))
        for start in range(0, len(everyone), CHUNK):
            part = slice(start, start + CHUNK)
            state, condition = self._draw(everyone[part])
            self.state[part] = state.to(self.state)
            rewards = self.tilt.reward.score(state, condition, self.base.decode)
            self.reward[part] = rewards.to(self.reward)
            if self.condition is not None:
                self.condition[part] = condition.to(self.condition)
        condition = self.condition
        if self.conditions is not None:
            condition = self._conditions_of(everyone)
        self._weigh(groups_of(condition, len(everyone)).to(self.reward.device))

    def _weigh(self, groups: Tensor) -> None:
        """Weigh the candidates, of groups (N,)."""
        log_weight = self._log_weight(groups)
        self.log_weight.copy_(normalize_by_group(log_weight, groups))
        self.ess_fraction.copy_(ess_fraction(self.log_weight, groups))
        self.log_mean.copy_(log_weight.logsumexp(0) - math.log(len(log_weight)))
        self.weight.copy_(torch.bincount(groups)[groups] * self.log_weight.exp())
        self.centered.copy_(center_by_group(log_weight, groups))
        self._warn_of_few()

    def _log_weight(self, groups: Tensor) -> Tensor:
        """Log-weights (N,) of the candidates, up to a constant for each of the groups (N,)."""
        return self.tilt.log_weight(self.reward)

    def _warn_of_few(self) -> None:
        if self.ess_fraction < FEW:
            warnings.warn(
                f"at strength {self.tilt.strength:g} only {self.ess_fraction.item():.2%} of "
                f"{len(self.state)} candidates are effective: the tilt is learned from few "
                "samples. Enlarge the pool, lower the strength, or reach it in parts with "
                "annealing_stages=",
                stacklevel=2,
            )

    def _draw(self, rows: Tensor) -> tuple[Tensor, Any]:
        if self.data is not None:
            batch = batches(self.data, len(rows), self.base)(self.generator).to(self.base.device)
            return batch.get("data"), as_given(batch.get("condition", None))
        condition = None
        if self.conditions is not None:
            condition = condition_rows(self._conditions_of(rows), len(rows), self.base.device)
        with evaluating(self.base):  # which may be in training
            state = self.base.sample(len(rows), self.steps, condition, generator=self.generator)
        return state, condition


def _as_renamed(pool: Pool, state: dict[str, Tensor], prefix: str, *_) -> None:
    """The state of a checkpoint of earlier versions under the names of today."""
    for old, new in RENAMED.items():
        if f"{prefix}{old}" in state:
            state[f"{prefix}{new}"] = state.pop(f"{prefix}{old}")
    if pool.condition is None:
        # of the problem's conditions, which candidates have in turn
        state.pop(f"{prefix}condition", None)
