r"""Direct reward backpropagation: the reward's gradient walks back through the sampler.

.. math:: \max_\theta \; \lambda\, \mathbb{E}\, r(x_1^\theta) - D(\theta)

With the path KL for D the optimum is the tilt. Without D the best the model can do is to put all
samples where the reward is highest, and it will.

Source: Clark et al. 2023 (2309.17400), DRaFT and DRaFT-K, for backpropagation without D;
Domingo-Enrich et al. 2024 (2409.08861) for the memoryless path KL.
"""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes
from alignflow.flow_map import FlowMap
from alignflow.reward_module import RewardError

from .memoryless import MemorylessRollout
from .regularizers import EndpointDistance, PathKL
from .rollouts import MapRollout, Path
from .starts import sample_starts
from .tuner import Tuner

__all__ = ["Direct"]


class Direct(Tuner):
    """Reward backpropagation through the map or the memoryless SDE; the path KL makes it the tilt.

    All losses are divided by the size of an event, which puts them on the scale of flow matching.
    The tuned model's own endpoints then keep it one flow map: off the diagonal by `rule`, and,
    where the map itself was moved, on the diagonal by flow matching.

    Args:
        policy: The map being tuned.
        reward: A differentiable reward.
        strength: lambda: what a unit of reward is worth against D.
        regularizer: D: `PathKL()`, `EndpointDistance(beta)`, or None.
        rollout: `MemorylessRollout` or `MapRollout`; by default the one its regularizer is for,
            and the map where there is none.
        data: What the path that a rollout starts on leads to, in place of the base's samples.
        rule: `PSD`, `LSD` or `ESD`, which keeps the jumps.
        times: Sampler of their times.
        condition: One to tune for, or a tensor of them (C, ...), drawn evenly.
        base: The model that is tilted; a frozen copy of the policy by default.
        generator: Source of all randomness.
    """

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        state: NestedKey = "state"
        time: NestedKey = "time"
        condition: NestedKey = "condition"

    takes_black_box = False

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        regularizer: PathKL | EndpointDistance | None = PathKL(),  # noqa: B008 (it has no state)
        rollout: MapRollout | MemorylessRollout | None = None,
        data: Any = None,
        rule: PSD | LSD | ESD = PSD(),  # noqa: B008
        times: UniformTimes | None = None,
        condition: Any = None,
        base: FlowMap | None = None,
        generator: torch.Generator | None = None,
    ):
        generator = generator or torch.Generator().manual_seed(0)
        if rollout is None:
            rollout = MapRollout() if regularizer is None else regularizer.rollout()
        if regularizer is not None and not isinstance(rollout, regularizer.accepts):
            raise ValueError(
                f"{type(regularizer).__name__} is not defined on a {type(rollout).__name__}: it "
                f"needs {' or '.join(kind.__name__ for kind in regularizer.accepts)}"
            )
        if data is not None and rollout.start == "noise":
            raise ValueError("data would do nothing with a rollout that starts at noise")
        # the memoryless SDE trains the diagonal, the map does not
        diagonal = 0.0 if isinstance(rollout, MemorylessRollout) else 0.5
        distillation = FlowMapLoss(
            policy, rule, diagonal_fraction=diagonal, times=times, generator=generator
        )
        super().__init__(
            policy,
            reward,
            strength,
            distillation=distillation,
            condition=condition,
            base=base,
            generator=generator,
        )
        self.regularizer, self.rollout = regularizer, rollout
        self._data = (data,)

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses of this setting, and the mean reward."""
        regularizer = ["loss_regularizer"] if self.regularizer is not None else []
        anchor = ["loss_diagonal"] if self.distillation.diagonal_fraction else []
        return ["loss_reward", *regularizer, *anchor, "loss_map", "reward"]

    def sample_batch(self, n: int) -> TensorDict:
        """n starts: `state` (n, *E), `time` (n,) and `condition` (n, ...)."""
        return sample_starts(self, n, self.rollout.start, *self._data)

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of starts: `state` (N, *E) at `time` (N,), and perhaps `condition` (N, ...)."""
        keys = self.tensor_keys
        state, time = tensordict.get(keys.state), tensordict.get(keys.time)
        condition = tensordict.get(keys.condition, None)
        path = self.rollout(self.policy, state, time, condition, self.generator)
        reward = self.reward.score(path.endpoint, condition, self.policy.decode)
        if not reward.requires_grad:
            raise RewardError(
                f"reward {self.reward.name!r} says differentiable, but its answer carries no graph"
            )
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
