r"""Policy gradient on the denoising process: the reward is only scored, at the end of an episode.

.. math:: \max_\theta\; \mathbb{E}\Big[\lambda r(x_1)
    - \sum_k \mathrm{KL}\big(\pi_\theta(\cdot | x_k) \,\|\, \pi(\cdot | x_k)\big)\Big]

On memoryless paths the sum is the KL of paths, and its optimum, as steps grow, is the tilt. The
gradient of the expectation is that of log-densities, each times the advantage of what comes after
it, beside that of each KL itself. Both are divided by the standard deviation of the rewards of a
group, which sets the length of a step and leaves the optimum where it is.

Sources: PPO (1707.06347) for the clipped ratio; GRPO (2402.03300) for groups in place of a critic;
Flow-GRPO (2505.05470) and Flow-Map GRPO (2607.00535) for the stochastic steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes
from alignflow.flow_map import FlowMap

from .episodes import Episodes, law_of, step_kl
from .tuner import Tuner

__all__ = ["GRPO"]


class GRPO(Tuner):
    """Policy gradient with group-normalized advantages: any reward, at many calls.

    Episodes of the SDE move the velocity, at all times, for their own are jittered; `rule` carries
    it to the few-step map, with flow matching on the ends beside it where an episode moved the map
    itself. Few steps tilt too little.

    Args:
        environment: Makes the environment, `environment(base, reward, num_envs=, condition=)`:
            `alignflow.envs.DenoisingEnv`, or a `functools.partial` of it with steps and transition.
            It is made with `jitter`.
        episodes: Held at a time; the groups that rewards are compared in.
        refresh_every: Batches between fresh episodes.
        clip: How far a ratio of densities may move from 1.
        rule: `PSD`, `LSD` or `ESD`, which keeps the jumps.
        times: Sampler of its times.
        condition: One to tune for, or a tensor of them (C, ...).
        base: The model that is tilted; a frozen copy of the policy by default.
        generator: Source of all randomness.
    """

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        state: NestedKey = "state"
        time: NestedKey = "time"
        target_time: NestedKey = "target_time"
        action: NestedKey = "action"
        action_log_prob: NestedKey = "action_log_prob"
        base_loc: NestedKey = "base_loc"
        advantage: NestedKey = "advantage"
        kl_weight: NestedKey = "kl_weight"
        condition: NestedKey = "condition"

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        environment: Callable[..., Any] | None = None,
        episodes: int = 256,
        refresh_every: int = 1,
        clip: float = 0.2,
        rule: PSD | LSD | ESD = PSD(),  # noqa: B008 (it has no state)
        times: UniformTimes | None = None,
        condition: Any = None,
        base: FlowMap | None = None,
        generator: torch.Generator | None = None,
    ):
        if environment is None:
            raise ValueError(
                "grpo acts in an environment: give environment=alignflow.envs.DenoisingEnv, or a "
                "functools.partial of it with steps and transition"
            )
        checks.called("environment", environment, "(base, reward, num_envs=, condition=, jitter=)")
        # a group of one has nothing to compare
        episodes = checks.count("episodes", episodes, least=2)
        refresh_every = checks.count("refresh_every", refresh_every)
        clip = checks.fraction("clip", clip, zero=False, one=False)
        generator = generator or torch.Generator().manual_seed(0)
        distillation = FlowMapLoss(
            policy, rule, times=times, regression=policy.prediction.robust, generator=generator
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
        self.clip = clip
        env = environment(
            self.base, self.reward, num_envs=episodes, condition=self.condition, jitter=True
        )
        distillation.diagonal_fraction = 0.0 if env.trains_velocity else 0.5
        # in a tuple, so that what acts is no second copy of the policy in this module
        self._actor = (env.actor(self.policy),)
        self.episodes = Episodes(
            env, *self._actor, env.actor(self.base), strength, refresh_every, generator
        )

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the mean reward of the episodes, and how far the densities have moved."""
        anchor = ["loss_diagonal"] if self.distillation.diagonal_fraction else []
        return ["loss_objective", "loss_kl", *anchor, "loss_map", "reward", "clipped_share"]

    def sample_batch(self, n: int) -> TensorDict:
        """Rows of n of the episodes, or of all: (n, K), K the steps of an episode."""
        drawn = self.episodes.draw(n)
        found = {getattr(self.tensor_keys, name): value for name, value in drawn.items()}
        return TensorDict(found, batch_size=drawn.batch_size)

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of rows as `sample_batch` draws them."""
        steps = tensordict.flatten(0, 1)
        condition, action = self._read(steps, "condition"), self._read(steps, "action")
        asked = {name: self._read(steps, name) for name in ("state", "time", "target_time")}
        if condition is not None:
            asked["condition"] = condition
        (actor,) = self._actor
        law = law_of(actor, TensorDict(asked, batch_size=len(action)))
        free = law.scale > 0  # the last step has no density
        ratio = (law.log_prob(action) - self._read(steps, "action_log_prob")).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        advantage, weight = self._read(steps, "advantage"), self._read(steps, "kl_weight")
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        kl = weight * step_kl(law.loc, self._read(steps, "base_loc"), law.scale)
        size = action[0].numel()
        ends = tensordict[:, -1]
        return TensorDict(
            {
                "loss_objective": -gain[free].mean() / size,
                "loss_kl": kl[free].mean() / size,
                **self.distil(self._read(ends, "action"), self._read(ends, "condition")),
                "reward": self.episodes.mean_reward.clone(),
                "clipped_share": (clipped != ratio)[free].float().mean(),
            }
        )

    def _read(self, rows: TensorDictBase, name: str) -> Any:
        return rows.get(getattr(self.tensor_keys, name), None)
