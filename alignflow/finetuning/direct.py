r"""Direct reward backpropagation: the reward's gradient walks back through the sampler.

.. math:: \max_\theta \; \lambda\, \mathbb{E}\, r(x_1^\theta) - D(\theta)

With the path KL or the endpoint's for D the optimum is the tilt. Without D the best the model can
do is to put all samples where the reward is highest, and it will.

Source: Clark et al. 2023 (2309.17400), DRaFT and DRaFT-K, for backpropagation without D;
Domingo-Enrich et al. 2024 (2409.08861) for the memoryless path KL.
"""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap

from .regularizers import PathKL, Regularizer, Rollout
from .rollout_tuner import RolloutTuner
from .rollouts import MapRollout, Path

__all__ = ["Direct"]


class Direct(RolloutTuner):
    """Reward backpropagation through the map, the SDE or the ODE; a KL makes it the tilt.

    All losses are divided by the size of an event, which puts them on the scale of flow matching.
    The tuned model's own endpoints then keep it one flow map: off the diagonal by `rule`, and,
    where the map itself was moved, on the diagonal by flow matching.

    Args:
        regularizer: D: `PathKL()`, `EndpointKL()`, `MMD(beta)`, `EndpointDistance(beta)`, or None;
            the strength is what a unit of reward is worth against it.
        rollout: `MemorylessRollout`, `ODERollout` or `MapRollout`; by default the one its
            regularizer is for, and the map where there is none.
    """

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        regularizer: Regularizer | None = PathKL(),  # noqa: B008 (it has no state)
        rollout: Rollout | None = None,
        **options,
    ):
        if regularizer is not None:
            wanted = "PathKL(), EndpointKL(), MMD(), EndpointDistance() or None"
            parts = ("rollout", "accepts", "__call__")
            checks.offers("regularizer", regularizer, parts, wanted)
        if rollout is None:
            rollout = MapRollout() if regularizer is None else regularizer.rollout()
        if regularizer is not None and not isinstance(rollout, regularizer.accepts):
            fit = " or ".join(kind.__name__ for kind in regularizer.accepts)
            raise ValueError(
                f"rollout must be {fit}, got {checks.shown(rollout)}: "
                f"{type(regularizer).__name__} is not defined on a {type(rollout).__name__}"
            )
        super().__init__(policy, reward, strength, rollout=rollout, **options)
        self.regularizer = regularizer

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses of this setting, and the mean reward."""
        regularizer = ["loss_regularizer"] if self.regularizer is not None else []
        anchor = ["loss_diagonal"] if self.distillation.diagonal_fraction else []
        return ["loss_reward", *regularizer, *anchor, "loss_map", "reward"]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of starts: `state` (N, *E) at `time` (N,), and perhaps `condition` (N, ...)."""
        keys = self.tensor_keys
        state, time = tensordict.get(keys.state), tensordict.get(keys.time)
        condition = tensordict.get(keys.condition, None)
        path = self.rollout(self.policy, state, time, condition, self.generator)
        reward = self.reward.score(path.endpoint, condition, self.policy.decode)
        self.check_graph(reward, path.endpoint)
        size = state[0].numel()
        losses = {"loss_reward": -self.strength * reward.mean() / size}
        if self.regularizer is not None:
            cost = self.regularizer(path, self.base, condition)
            losses["loss_regularizer"] = cost.mean() / size
        kept = self.distil(self._own(path, condition), condition)
        return TensorDict({**losses, **kept, "reward": reward.detach().mean()})

    @torch.no_grad()
    def _own(self, path: Path, condition: Any) -> Tensor:
        # flow matching needs the tuned law itself, which is not where starts on the path lead to;
        # a rule off the diagonal holds at any states
        if self.rollout.start == "path" and self.distillation.diagonal_fraction:
            n, steps = len(path.endpoint), self.rollout.jumps
            return self.policy.sample(n, steps, condition, generator=self.generator)
        return path.endpoint.detach()
