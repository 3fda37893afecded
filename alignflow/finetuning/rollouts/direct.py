r"""Direct reward backpropagation: the reward's gradient through the sampler.

.. math:: \max_\theta \; \lambda\, \mathbb{E}\, r(x_1^\theta) - D(\theta)

D is a regularizer, against which a unit of reward counts the strength. With the path KL or the
endpoint's the optimum is the tilt. Without D all samples end where the reward is highest.

Source: Clark et al. 2023 (2309.17400), DRaFT and DRaFT-K, for backpropagation without D;
Domingo-Enrich et al. 2024 (2409.08861) for the memoryless path KL.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.finetuning.problem import Problem
from alignflow.settings import option

from .paths import MapRollout, Path
from .regularizers import PathKL, Regularizer, Rollout
from .rollout_tuner import RolloutMethod, RolloutTuner

__all__ = ["Direct"]


def _regularizer(name: str, value: Any) -> Regularizer | None:
    if value is None:
        return None
    wanted = "PathKL(), EndpointKL(), MMD(), EndpointDistance() or None"
    return checks.offers(name, value, ("rollout", "accepts", "__call__"), wanted)


@dataclass(frozen=True, kw_only=True)
class Direct(RolloutMethod):
    """Reward backpropagation through the map, the SDE or the ODE; a KL makes it the tilt.

    All losses are divided by the size of an event, which puts them on the scale of flow matching.
    The tuned model's endpoints then keep it one flow map: off the diagonal by `rule`, and,
    where the map itself was moved, on the diagonal by flow matching.
    """

    regularizer: Regularizer | None = option(
        PathKL(),
        "D: PathKL(), EndpointKL(), MMD(beta), EndpointDistance(beta), or None",
        _regularizer,
    )
    rollout: Rollout | None = option(
        None,
        "MemorylessRollout, ODERollout or MapRollout; None is the one its regularizer is for, and "
        "MapRollout without one",
    )

    def __post_init__(self):
        super().__post_init__()
        accepts = () if self.regularizer is None else self.regularizer.accepts
        if self.rollout is not None and accepts and not isinstance(self.rollout, accepts):
            fit = " or ".join(kind.__name__ for kind in accepts)
            raise ValueError(
                f"rollout must be {fit}, got {checks.shown(self.rollout)}: "
                f"{type(self.regularizer).__name__} is not defined on a "
                f"{type(self.rollout).__name__}"
            )

    def bind(self, problem: Problem) -> "DirectTuner":
        return DirectTuner(problem, self)


class DirectTuner(RolloutTuner):
    """The loss of `Direct`."""

    def __init__(self, problem: Problem, method: Direct):
        rollout = method.rollout
        if rollout is None:
            kind = MapRollout if method.regularizer is None else method.regularizer.rollout
            rollout = cast(Rollout, kind())
        super().__init__(problem, method, rollout)
        self.regularizer = method.regularizer

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses of this setting, and the mean reward."""
        regularizer = ["loss_regularizer"] if self.regularizer is not None else []
        anchor = ["loss_diagonal"] if self.distillation.diagonal_fraction else []
        return ["loss_reward", *regularizer, *anchor, "loss_map", "reward"]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of starts: `state` (N, *E) at `time` (N,), and perhaps `condition` (N, ...)."""
        state, time = self.read(tensordict, "state"), self.read(tensordict, "time")
        condition = self.read(tensordict, "condition")
        path = self.rollout(self.policy, state, time, condition, self.generator)
        reward = self.reward.score(path.endpoint, condition, self.policy.decode)
        self.check_graph(reward, path.endpoint)
        size = state[0].numel()
        losses = {"loss_reward": -self.tilt.log_weight(reward.mean()) / size}
        if self.regularizer is not None:
            cost = self.regularizer(path, self.base, condition)
            losses["loss_regularizer"] = cost.mean() / size
        consistency = self.distil(self._endpoints_of_model(path, condition), condition)
        return TensorDict({**losses, **consistency, "reward": reward.detach().mean()})

    @torch.no_grad()
    def _endpoints_of_model(self, path: Path, condition: Any) -> Tensor:
        # flow matching needs the tuned distribution itself, which starts on the path do not lead
        # to; a rule off the diagonal holds at any states
        if self.rollout.start == "path" and self.distillation.diagonal_fraction:
            n, steps = len(path.endpoint), self.rollout.jumps
            return self.policy.sample(n, steps, condition, generator=self.generator)
        return path.endpoint.detach()
