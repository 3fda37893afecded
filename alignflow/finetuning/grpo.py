r"""Policy gradient on the denoising process: the reward is only scored, at the end of an episode.

.. math:: \max_\theta\; \mathbb{E}\Big[\lambda r(x_1)
    - \sum_k \mathrm{KL}\big(\pi_\theta(\cdot | x_k) \,\|\, \pi(\cdot | x_k)\big)\Big]

On memoryless paths the sum is the KL of paths, and its optimum, as steps grow, is the tilt. The
gradient of the expectation is that of log-densities, each times what comes after it,

.. math:: A_k = \frac{\lambda r - \sum_{j > k} \mathrm{KL}_j - \text{mean}}{s},

beside that of each KL itself; s is the standard deviation of the rewards of a group, episodes of
one condition. Dividing both by s sets the length of a step and leaves the optimum where it is.

Sources: PPO (1707.06347) for the clipped ratio; GRPO (2402.03300) for groups in place of a critic;
Flow-GRPO (2505.05470) and Flow-Map GRPO (2607.00535) for the stochastic steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow.distillation import ESD, LSD, PSD, FlowMapLoss, UniformTimes
from alignflow.flow_map import FlowMap

from .pool import groups_of
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

    mean_reward: Tensor
    age: Tensor

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
        if episodes < 2:
            raise ValueError(f"a group needs at least 2 episodes to compare, got {episodes}")
        if refresh_every < 1:
            raise ValueError(f"refresh_every must be at least 1, got {refresh_every}")
        if not 0 < clip < 1:
            raise ValueError(f"clip must lie in (0, 1), got {clip}")
        generator = generator or torch.Generator().manual_seed(0)
        distillation = FlowMapLoss(policy, rule, times=times, generator=generator)
        super().__init__(
            policy,
            reward,
            strength,
            distillation=distillation,
            condition=condition,
            base=base,
            generator=generator,
        )
        self.refresh_every, self.clip = refresh_every, clip
        env = environment(
            self.base, self.reward, num_envs=episodes, condition=self.condition, jitter=True
        )
        distillation.diagonal_fraction = 0.0 if env.trains_velocity else 0.5
        # in a tuple, so that what acts is no second copy of the policy in this module
        self._handed: tuple[Any, Any, Any] = (env, env.actor(self.policy), env.actor(self.base))
        shape = (episodes, env.steps)
        # what is held travels with checkpoints, so that a run that goes on sees the same episodes
        for name in ("state", "action", "base_loc"):
            self.register_buffer(f"held_{name}", torch.zeros(*shape, *self.base.event_shape))
        for name in ("time", "target_time"):
            self.register_buffer(f"held_{name}", torch.zeros(*shape, 1))
        for name in ("action_log_prob", "advantage", "kl_weight"):
            self.register_buffer(f"held_{name}", torch.zeros(shape))
        if self.condition is not None:
            width = self.condition.shape[1:]
            self.register_buffer("held_condition", self.condition.new_zeros(*shape, *width))
        self.register_buffer("mean_reward", torch.zeros(()))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the mean reward of the episodes, and how far the densities have moved."""
        anchor = ["loss_diagonal"] if self.distillation.diagonal_fraction else []
        return ["loss_objective", "loss_kl", *anchor, "loss_map", "reward", "clipped_share"]

    def sample_batch(self, n: int) -> TensorDict:
        """Rows of n of the episodes, or of all: (n, K), K the steps of an episode."""
        if self.age % self.refresh_every == 0:
            self.refresh()
        self.age += 1
        held = {k.removeprefix("held_"): v for k, v in self.named_buffers() if "held_" in k}
        shape = held["advantage"].shape
        rows = torch.randperm(shape[0], generator=self.generator)[:n].to(held["state"].device)
        found = {getattr(self.tensor_keys, name): value[rows] for name, value in held.items()}
        return TensorDict(found, batch_size=[len(rows), shape[1]])

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of rows as `sample_batch` draws them."""
        steps = tensordict.flatten(0, 1)
        condition, action = self._read(steps, "condition"), self._read(steps, "action")
        asked = {name: self._read(steps, name) for name in ("state", "time", "target_time")}
        if condition is not None:
            asked["condition"] = condition
        _, actor, _ = self._handed
        law = actor.get_dist(TensorDict(asked, batch_size=len(action)))
        free = law.scale > 0  # the last step has no density
        ratio = (law.log_prob(action) - self._read(steps, "action_log_prob")).exp()
        clipped, advantage = (
            ratio.clamp(1 - self.clip, 1 + self.clip),
            self._read(steps, "advantage"),
        )
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        kl = self._read(steps, "kl_weight") * _kl(law.loc, self._read(steps, "base_loc"), law.scale)
        size = action[0].numel()
        ends = tensordict[:, -1]
        return TensorDict(
            {
                "loss_objective": -gain[free].mean() / size,
                "loss_kl": kl[free].mean() / size,
                **self.distil(self._read(ends, "action"), self._read(ends, "condition")),
                "reward": self.mean_reward.clone(),
                "clipped_share": (clipped != ratio)[free].float().mean(),
            }
        )

    def _read(self, rows: TensorDictBase, name: str) -> Any:
        return rows.get(getattr(self.tensor_keys, name), None)

    @torch.no_grad()
    def refresh(self) -> None:
        """Draw and score new episodes of the policy as it is."""
        env, actor, base = self._handed
        # torchrl's actors draw from torch's own generator
        with torch.random.fork_rng():
            torch.manual_seed(self._seed())
            env.set_seed(self._seed())
            path = env.rollout(env.steps, actor, break_when_any_done=False)
        worth = self.strength * path["next", "reward"][:, -1, 0]
        own, law = actor.get_dist(path), base.get_dist(path)
        kl = _kl(own.loc, law.loc, own.scale)
        self.mean_reward.copy_(path["next", "reward"][:, -1].mean())
        condition = path.get("condition", None)
        groups = groups_of(None if condition is None else condition[:, 0], len(worth))
        deviation = _per_group(groups, (worth - _per_group(groups, worth)).square()).sqrt()
        weight = torch.where(deviation > 0, 1 / deviation, 1.0)[:, None]
        # a step is worth what comes after it: the reward less the KL of the steps that follow
        after = kl.flip(1).cumsum(1).flip(1) - kl
        gain = worth[:, None] - after
        advantage = weight * (gain - _per_group(groups, gain))
        found = {
            **{name: path[name] for name in ("state", "action", "time", "target_time")},
            "base_loc": law.loc,
            "action_log_prob": path["action_log_prob"],
            "advantage": advantage,
            "kl_weight": weight.expand_as(kl),
        }
        if condition is not None:
            found["condition"] = condition
        for name, value in found.items():
            cast(Tensor, getattr(self, f"held_{name}")).copy_(value)

    def _seed(self) -> int:
        return int(torch.randint(2**31, (), generator=self.generator))


def _kl(mean: Tensor, base: Tensor, spread: Tensor) -> Tensor:
    """Of Gaussians (*B, *E) of one spread (*B,); 0 where there is none."""
    square = (mean - base).square().flatten(spread.ndim).sum(-1)
    return torch.where(spread > 0, square / (2 * spread.clamp_min(1e-12).square()), 0.0)


def _per_group(groups: Tensor, values: Tensor) -> Tensor:
    """The mean over a row's group, of values (N, ...)."""
    count = torch.bincount(groups).to(values)
    total = values.new_zeros(len(count), *values.shape[1:]).index_add_(0, groups, values)
    return (total / count.reshape(-1, *[1] * (values.ndim - 1)))[groups]
