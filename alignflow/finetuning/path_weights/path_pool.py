"""Pools of memoryless paths, weighted towards the tilt of the base's paths."""

from typing import Any, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow import checks
from alignflow.conditions import condition_rows
from alignflow.finetuning.pools.pool import Pool
from alignflow.flow_map import FlowMap
from alignflow.metrics.groups import center_by_group, ess_fraction, normalize_by_group
from alignflow.modules import set_unregistered
from alignflow.settings import option
from alignflow.tilt import Tilt

from .paths import MemorylessPaths, PathStep
from .trust_region import TrustRegion

__all__ = ["PathPool", "StoredPaths", "averaged_option"]


def averaged_option() -> Any:
    """Whether the averaged weights draw the paths of a method."""
    return option(
        False,
        "whether the averaged weights draw the paths and not the newest, whose noise is paid for "
        "in the paths' log-ratios",
        checks.flag,
    )


class PathPool(Pool):
    r"""Ends of paths of a model that is being tuned, with their log-ratios to the base's paths.

    Candidates have the weights :math:`w^\kappa`, with :math:`w = e^{\lambda r - \ell}` and kappa
    of the trust region; without one it is 1. The `ess_fraction` is that of w itself: it says how
    near the model's paths are to the tilt of the base's.

    Args:
        paths: How they are drawn.
        model: What draws them.
        base: What they are compared with.
        tilt: What scores their ends.
        size: Number of paths.
        refresh_every: Batches between pools.
        trust_region: How far the weights go towards the tilt.
        generator: Source of all randomness.
        condition: As of `Pool`.
    """

    model: FlowMap
    log_ratio: Tensor
    exponent: Tensor

    def __init__(
        self,
        paths: MemorylessPaths,
        model: FlowMap,
        base: FlowMap,
        tilt: Tilt,
        size: int,
        refresh_every: int,
        trust_region: TrustRegion | None,
        generator: torch.Generator,
        condition: Any = None,
    ):
        super().__init__(
            base, tilt, size, refresh_every, paths.steps, generator, condition=condition
        )
        self.paths, self.trust_region = paths.of(base, condition), trust_region
        set_unregistered(self, model=model)
        self.register_buffer("log_ratio", torch.zeros_like(self.reward))
        self.register_buffer("exponent", torch.ones((), device=base.device))

    @classmethod
    def of(cls, tuner: Any, method: Any, model: FlowMap) -> Self:
        """The pool of a tuner, by its method's options: paths that a model draws."""
        return cls(
            method.paths,
            model,
            tuner.base,
            tuner.tilt,
            method.pool,
            method.refresh_every,
            method.trust_region,
            tuner.generator,
            tuner.condition,
        )

    def follow(self, model: FlowMap) -> None:
        """Draw the next pools by another model: paths are weighed by what drew them."""
        set_unregistered(self, model=model)

    def _draw(self, rows: Tensor) -> tuple[Tensor, Any]:
        n, device = len(rows), self.base.device
        condition = None
        if self.conditions is not None:
            condition = condition_rows(self._conditions_of(rows), n, device)
        steps = self.paths.draw(self.model, n, condition, self.generator)
        total, state = torch.zeros(n, dtype=torch.float64, device=device), None
        for number, step in enumerate(steps):
            total, state = total + step.log_ratio, step.end_state
            self._store(rows, number, step)
        self.log_ratio[rows.to(self.log_ratio.device)] = total.to(self.log_ratio)
        assert state is not None
        return state, condition

    def _store(self, rows: Tensor, number: int, step: PathStep) -> None:
        """Take up a step of the paths of these rows."""

    def _log_weight(self, groups: Tensor) -> Tensor:
        full, exponent = self._full(), 1.0
        if self.trust_region is not None:
            exponent = self.trust_region.exponent(full, groups)
        self.exponent.fill_(exponent)
        return torch.where(full > -torch.inf, exponent * full, full)

    def _weigh(self, groups: Tensor) -> None:
        super()._weigh(groups)
        full = normalize_by_group(self._full(), groups)
        self.ess_fraction.copy_(ess_fraction(full, groups))

    def _full(self) -> Tensor:
        """log w, (N,)."""
        return self.tilt.log_weight(self.reward) - self.log_ratio

    def _warn_of_few(self) -> None:
        """Nothing: later pools have more effective paths, and the trust region bounds the first."""


class StoredPaths(PathPool):
    r"""Whole paths, each with the value that its log-ratio is to have, up to a constant.

    .. math:: y = \ell + \kappa\, (\lambda r - \ell)

    is the log-ratio to the base of the distribution :math:`w^\kappa p_\theta`, of the model that
    drew them; with kappa 1 it is the tilt's, whatever drew them.

    Args:
        *given: As of `PathPool`.
        **options: Likewise.
    """

    path: Tensor
    time: Tensor
    base_velocity: Tensor
    goal: Tensor
    group: Tensor
    mean_reward: Tensor

    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        size, *event = self.state.shape
        steps, like = self.paths.steps, self.state
        self.register_buffer("path", like.new_zeros(size, steps, *event))
        self.register_buffer("time", like.new_zeros(size, steps))
        self.register_buffer("base_velocity", like.new_zeros(size, steps, *event))
        self.register_buffer("goal", torch.zeros_like(self.reward))
        self.register_buffer("mean_reward", torch.zeros((), device=like.device))
        self.register_buffer("group", torch.zeros(size, dtype=torch.int64, device=like.device))

    def draw(self, n: int, resampled: int = 0) -> TensorDict:
        """n different ones, or all: `state`, `base_velocity` (n, K, *E) and `time` (n, K) of the
        K steps' starts, `data` (n, *E), the end, `goal` and `group`, (n,), perhaps `condition`."""
        self._grow_older()
        source = self.generator.device
        valid = torch.nonzero(self.goal > -torch.inf)[:, 0].to(source)
        order = torch.randperm(len(valid), generator=self.generator, device=source)[:n]
        rows = valid[order]
        drawn, at = self._rows(rows), rows.to(self.path.device)
        return drawn.update(
            {
                "state": self.path[at],
                "time": self.time[at],
                "base_velocity": self.base_velocity[at],
                "goal": self.goal[rows.to(self.goal.device)].to(at.device),
                "group": self.group[at],
            }
        )

    def _store(self, rows: Tensor, number: int, step: PathStep) -> None:
        at = rows.to(self.path.device)
        self.path[at, number] = step.state.to(self.path)
        self.time[at, number] = step.time.to(self.time)
        self.base_velocity[at, number] = step.base_velocity.to(self.base_velocity)

    def _weigh(self, groups: Tensor) -> None:
        super()._weigh(groups)
        # log_weight has the exponent in it
        goal = self.log_ratio + self.log_weight
        self.goal.copy_(torch.where(goal > -torch.inf, center_by_group(goal, groups), goal))
        self.group.copy_(groups)
        self.mean_reward.copy_(self.reward[torch.isfinite(self.reward)].mean())
