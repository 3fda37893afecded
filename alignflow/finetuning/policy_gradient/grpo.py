r"""Policy gradient on the denoising process: the reward is only scored, at the end of an episode.

.. math:: \max_\theta\; \mathbb{E}\Big[\lambda r(x_1)
    - \sum_k \mathrm{KL}\big(\pi_\theta(\cdot | x_k) \,\|\, \pi(\cdot | x_k)\big)\Big]

On memoryless paths the sum is the KL of paths, and its optimum, as steps grow, is the tilt. The
gradient of the expectation is that of log-densities, each times the advantage of what comes after
it, beside that of each KL itself. Or, in place of the KLs, each of them times lambda r less the
log-ratio of the whole path to the base's: the same in mean, and constant at the tilt. Both may be
divided by the standard deviation of the rewards of a group, which sets the length of a step and
leaves the optimum where it is. A learned value may be the critic: what a state promises is taken
from the return of its step, so that a step has the credit of what it changed.

Sources: PPO (1707.06347) for the clipped ratio; GRPO (2402.03300) for groups in place of a critic;
Flow-GRPO (2505.05470) and Flow-Map GRPO (2607.00535) for the stochastic steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.finetuning.problem import Problem
from alignflow.finetuning.tuner import Method, Tuner
from alignflow.flow_map import FlowMap
from alignflow.modules import set_unregistered
from alignflow.settings import option
from alignflow.values import ValueFunction

from .critic import as_critic
from .episodes import Episodes, action_distribution, step_kl

__all__ = ["GRPO", "environment_maker"]

# by its path: the environments are a wing, which the core does not import
ENVIRONMENT = "alignflow.envs.DenoisingEnv"


def _environment(name: str, value: Any) -> str | Callable[..., Any]:
    if isinstance(value, str):
        try:
            resolve_name(value)
            return value
        except (ValueError, ImportError, AttributeError):
            pass
    return checks.called(name, value, "(base, reward, num_envs=, condition=, jitter=)")


def _group(name: str, value: int) -> int:
    # a group of one has nothing to compare
    return checks.count(name, value, least=2)


def _clip(name: str, value: float) -> float:
    return checks.fraction(name, value, zero=False, one=False)


def _credit(name: str, value: str) -> str:
    return checks.choice(name, value, ("path", "return"))


def _scale(name: str, value: str) -> str:
    return checks.choice(name, value, ("one", "std"))


@dataclass(frozen=True, kw_only=True)
class GRPO(Method):
    """Policy gradient with group-normalized advantages: any reward, at many calls.

    Episodes of the SDE move the velocity, at all times, for their inner times are jittered; `rule`
    carries it to the few-step map, with flow matching on the ends beside it where an episode moved
    the map itself. Few steps tilt too little.
    """

    environment: str | Callable[..., Any] = option(
        ENVIRONMENT,
        "makes the environment: a callable `(base, reward, num_envs=, condition=, jitter=)`, such "
        "as a functools.partial of alignflow.envs.DenoisingEnv with steps and transition, or the "
        "import path of one, whose transition is then the SDE with the policy's data_std",
        _environment,
    )
    episodes: int = option(256, "episodes at a time; rewards are compared among them", _group)
    refresh_every: int = option(1, "batches between fresh episodes", checks.count)
    credit: str = option(
        "return",
        "of a step: return, the reward less the KLs after it, its own KL differentiated; or path, "
        "the reward less the log-ratio of the whole path to the base's, which is constant at the "
        "tilt: with scale=one its gradient is that of the reverse KL",
        _credit,
    )
    scale: str = option("std", "of advantages: std of the rewards of a group, or one", _scale)
    critic: ValueFunction | None = option(
        None,
        "a learned value of the base and the reward, which is taken from the return of each step; "
        "None compares whole episodes alone",
        as_critic,
    )
    clip: float = option(0.2, "how far a ratio of densities may move from 1", _clip)

    def bind(self, problem: Problem) -> "GRPOTuner":
        return GRPOTuner(problem, self)


def environment_maker(environment: Any, policy: FlowMap) -> Callable[..., Any]:
    """What makes an environment; one of an import path with steps that suit the policy's data."""
    if not isinstance(environment, str):
        return environment
    transition = {"name": "sde", "data_std": policy.data_std}
    return partial(resolve_name(environment), transition=transition)


class GRPOTuner(Tuner):
    """The loss of `GRPO`."""

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

    actor: Any

    def __init__(self, problem: Problem, method: GRPO):
        super().__init__(problem, method, diagonal_fraction=0.5)
        self.clip = method.clip
        if method.critic is not None:
            method.critic.check(self.base, self.tilt)
        make = environment_maker(method.environment, self.base)
        environment = make(
            self.base,
            self.reward,
            num_envs=method.episodes,
            condition=self.condition,
            jitter=True,
        )
        if environment.trains_velocity:
            self.distillation.diagonal_fraction = 0.0
        # whose policy is in this module already
        set_unregistered(self, actor=environment.actor(self.policy))
        self.episodes = Episodes(
            environment,
            self.actor,
            environment.actor(self.base),
            self.tilt,
            method.credit,
            method.scale,
            method.refresh_every,
            self.generator,
            self.condition,
            method.critic,
        )

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the mean reward of the episodes, and how far the densities have moved."""
        anchor = ["loss_diagonal"] if self.distillation.diagonal_fraction else []
        return ["loss_objective", "loss_kl", *anchor, "loss_map", "reward", "clipped_fraction"]

    def sample_batch(self, n: int) -> TensorDict:
        """Rows of n of the episodes, or of all: (n, K), K the steps of an episode."""
        return self.renamed(self.episodes.draw(n))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of rows as `sample_batch` draws them."""
        steps = tensordict.flatten(0, 1)
        condition, action = self.read(steps, "condition"), self.read(steps, "action")
        asked = {name: self.read(steps, name) for name in ("state", "time", "target_time")}
        asked = TensorDict(asked, batch_size=len(action))
        if condition is not None:
            asked["condition"] = condition
        distribution = action_distribution(self.actor, asked)
        free = distribution.scale > 0  # the last step has no density
        ratio = (distribution.log_prob(action) - self.read(steps, "action_log_prob")).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        advantage, weight = self.read(steps, "advantage"), self.read(steps, "kl_weight")
        objective = torch.minimum(ratio * advantage, clipped * advantage)
        kl = weight * step_kl(distribution.loc, self.read(steps, "base_loc"), distribution.scale)
        size = action[0].numel()
        ends = tensordict[:, -1]
        return TensorDict(
            {
                "loss_objective": -objective[free].mean() / size,
                "loss_kl": kl[free].mean() / size,
                **self.distil(self.read(ends, "action"), self.read(ends, "condition")),
                "reward": self.episodes.mean_reward.clone(),
                "clipped_fraction": (clipped != ratio)[free].float().mean(),
            }
        )
