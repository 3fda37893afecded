r"""Log-variance: the log-ratio of paths regressed on the reward at their ends.

.. math:: \min_\theta\; \mathrm{Var}\big[\ell_\theta - \lambda r(x_1)\big], \qquad
    \ell_\theta = \log \frac{p_\theta(x_1, \ldots | x_0)}{p(x_1, \ldots | x_0)}

over paths that are drawn without a graph, by any distribution: the variance is 0 where the model's
paths are the base's tilted by :math:`e^{\lambda r(x_1)}`, whose constant needs not be known. The
gradient is

.. math:: 2\, \mathbb{E}\big[(L_i - \bar L)\, \nabla_\theta \ell_i\big], \qquad
    L = \ell_\theta - \lambda r

which on the model's paths is twice that of the reverse KL with a leave-one-out mean, and whose
variance vanishes at the optimum. With a trust region the values that are regressed on are those of
a distribution between the model that drew the paths and the tilt.

Sources: Richter, Boustati, Nuesken, Ruiz, Akyildiz 2020 (2010.10436), VarGrad; Nuesken and Richter
2021 (2005.05409), the log-variance of path measures; TR-SOC (2508.12511), its trust region.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.conditions import count_rows, repeat_rows, rows_of
from alignflow.finetuning.problem import Problem
from alignflow.finetuning.rollouts.paths import recomputed
from alignflow.finetuning.tuner import Method, Tuner
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.settings import option, optional

from .path_pool import StoredPaths, averaged_option
from .paths import MemorylessPaths, as_paths, velocity_of
from .trust_region import ESSRegion, TrustRegion, as_trust_region

__all__ = ["LogVariance", "group_variance"]


def _behavior(name: str, value: Any) -> FlowMap:
    check_flow_map(name, value)
    return value


@dataclass(frozen=True, kw_only=True)
class LogVariance(Method):
    """Regression of paths' log-ratios on their rewards, by any behavior: any black box will do.

    The velocity is trained on the paths, the jumps follow by `rule`, from noise to their ends.
    """

    pool: int = option(2048, "paths at a time, stored step by step", partial(checks.count, least=2))
    refresh_every: int = option(16, "batches between fresh paths", checks.count)
    paths: MemorylessPaths = option(MemorylessPaths(), "how they are drawn", as_paths)
    trust_region: TrustRegion | None = option(
        ESSRegion(),
        "how far fresh paths are from their goal: ESSRegion(), KLRegion(), or None, the tilt",
        as_trust_region,
    )
    behavior: FlowMap | None = option(
        None, "what draws the paths; None is the tuned model", optional(_behavior)
    )
    averaged: bool = averaged_option()
    recompute: bool = option(
        False, "whether the backward pass recomputes each step instead of storing it", checks.flag
    )

    def __post_init__(self):
        super().__post_init__()
        if self.behavior is not None and self.trust_region is not None:
            raise ValueError(
                "trust_region is about the paths of the tuned model, and would do nothing good "
                "with a behavior of another: set trust_region=None"
            )
        if self.behavior is not None and self.averaged:
            raise ValueError("averaged would do nothing with a behavior, which draws the paths")

    def bind(self, problem: Problem) -> "LogVarianceTuner":
        return LogVarianceTuner(problem, self)


class LogVarianceTuner(Tuner):
    """The loss of `LogVariance`."""

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        state: NestedKey = "state"
        time: NestedKey = "time"
        base_velocity: NestedKey = "base_velocity"
        data: NestedKey = "data"
        goal: NestedKey = "goal"
        group: NestedKey = "group"
        condition: NestedKey = "condition"

    def __init__(self, problem: Problem, method: LogVariance):
        super().__init__(problem, method, diagonal_fraction=0.0)
        self.recompute = method.recompute
        behavior = self.policy if method.behavior is None else method.behavior
        self.averaged = method.averaged
        self.pool = StoredPaths.of(self, method, behavior)

    def follow(self, average: FlowMap) -> None:
        if self.averaged:
            self.pool.follow(average)

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, and of the paths: mean reward, effective fraction and kappa."""
        return ["loss_variance", "loss_map", "reward", "ess_fraction", "exponent"]

    def sample_batch(self, n: int) -> TensorDict:
        """n paths, or all, as `StoredPaths.draw` gives them."""
        return self.renamed(self.pool.draw(n))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of paths as `sample_batch` draws them."""
        condition, data = self.read(tensordict, "condition"), self.read(tensordict, "data")
        log_ratio = self.log_ratio(tensordict)
        residual = log_ratio - self.read(tensordict, "goal").to(log_ratio)
        group, number = self.read(tensordict, "group"), count_rows(self.condition) or 1
        return TensorDict(
            {
                "loss_variance": group_variance(residual, group, number) / data[0].numel(),
                **self.distil(data, condition),
                "reward": self.pool.mean_reward.clone(),
                "ess_fraction": self.pool.ess_fraction.clone(),
                "exponent": self.pool.exponent.clone(),
            }
        )

    def log_ratio(self, tensordict: TensorDictBase) -> Tensor:
        """l of paths (N,) under the policy, with a graph."""
        names = ("state", "time", "base_velocity", "data")
        state, time, of_base, data = (self.read(tensordict, name) for name in names)
        n, steps = time.shape
        end_state = torch.cat([state[:, 1:], data[:, None]], 1)
        end = torch.cat([time[:, 1:], torch.ones_like(time[:, :1])], 1)
        # all rows at once, or as many as there are paths where the memory is to be that of a step
        start, time, end_state, end, of_base = (
            each.flatten(0, 1) for each in (state, time, end_state, end, of_base)
        )
        condition = repeat_rows(self.read(tensordict, "condition"), steps)
        velocity = recomputed(velocity_of(self.policy), self.recompute)
        at_once = n if self.recompute else n * steps
        parts = (slice(row, row + at_once) for row in range(0, n * steps, at_once))
        model = torch.cat(
            [velocity(start[at], time[at], rows_of(condition, at, n * steps)) for at in parts]
        )
        log_ratio = self.pool.paths.log_ratio(start, time, end_state, end, model, of_base)
        return log_ratio.unflatten(0, (n, steps)).sum(1)


def group_variance(values: Tensor, groups: Tensor, number: int) -> Tensor:
    """The variance of values (N,) within their groups (N,), unbiased, a mean over the rows, ().

    A row that is alone in its group counts as 0.

    Args:
        values: (N,).
        groups: Of each, (N,), below the number of groups.
        number: Of groups.
    """
    zero, one = values.new_zeros(number), torch.ones_like(values)
    size = zero.index_add(0, groups, one)
    mean = zero.index_add(0, groups, values) / size.clamp_min(1)
    offset, size = values - mean[groups], size[groups]
    return (offset.square() * size / (size - 1).clamp_min(1)).mean()
