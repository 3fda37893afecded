"""The denoising process as a torchrl environment, batched."""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Composite, Unbounded
from torchrl.envs import EnvBase

from alignflow import checks
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.steering.registry import Choice

from .actor import StepDistribution, StepMoments, denoising_actor
from .process import DenoisingProcess

__all__ = ["DenoisingEnv"]


class DenoisingEnv(EnvBase):
    """Episodes of denoising, many at once, as `DenoisingProcess` has them.

    Reads `action` (N, *E), the next state. Writes `state` (N, *E), its `time` and the
    `target_time` of the action that is due (N, 1), `step` (N, 1) counted from 0, the `shift` (N, 1)
    of the episode's inner times, perhaps `condition` (N, ...), and `reward` (N, 1). All that a step
    needs is in the tensordict, so that rows may stand at different steps.

    Args:
        policy: The flow map that is denoised by.
        reward: Of the end; any reward, or any callable as a black box.
        steps: Actions of an episode.
        grid: Their times in place of even ones.
        condition: One for all episodes, or several, one drawn for each.
        num_envs: N, episodes at once.
        kl_weight: Taken from each reward times log q - log p of the action, q the actor's density
            (`action_log_prob`, as its own actor writes it) and p the policy's own under
            `transition`: summed over an episode its mean is a KL to the policy's paths.
        transition: Of that p, and of `actor`, as `denoising_actor` takes it.
        jitter: Whether each episode's inner times move together, by up to half a gap.
        seed: Of starts and conditions.

    Raises:
        ValueError: If an action is no finite state.
        RewardError: If the reward fails.
    """

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        steps: int = 8,
        grid: Tensor | None = None,
        condition: Any = None,
        num_envs: int = 1,
        kl_weight: float = 0.0,
        transition: Choice = "sde",
        jitter: bool = False,
        seed: int = 0,
    ):
        check_flow_map("policy", policy)
        num_envs = checks.count("num_envs", num_envs)
        super().__init__(device=policy.device, batch_size=torch.Size([num_envs]))
        self.process = DenoisingProcess(policy, reward, steps, grid, condition, jitter)
        self.kl_weight = checks.nonnegative("kl_weight", kl_weight)
        self.transition = transition
        self._moments = StepMoments(policy, transition)
        self._set_seed(checks.count("seed", seed, least=0))
        self._make_specs()

    @property
    def trains_velocity(self) -> bool:
        """Whether its actors act by the policy's velocity, and not by its jumps."""
        return "velocity" in self._moments.transition.reads

    @property
    def steps(self) -> int:
        """Actions of an episode."""
        return self.process.steps

    def actor(self, policy: FlowMap | None = None) -> Any:
        """A `denoising_actor` of a policy, by default of the environment's own."""
        return denoising_actor(self.process.policy if policy is None else policy, self.transition)

    def _make_specs(self) -> None:
        batch, device, dtype = self.batch_size, self.device, self.process.dtype
        event, column = batch + self.process.policy.event_shape, batch + (1,)
        observed: dict[str, Any] = {
            "state": Unbounded(event, device, dtype),
            "time": Bounded(0.0, 1.0, column, device, dtype),
            "target_time": Bounded(0.0, 1.0, column, device, dtype),
            "step": Bounded(0, self.process.steps, column, device, torch.int64),
            "shift": Bounded(-0.5, 0.5, column, device, dtype),
        }
        conditions = self.process.conditions
        if conditions is not None:
            width = batch + conditions.shape[1:]
            observed["condition"] = Unbounded(width, device, conditions.dtype)
        self.observation_spec = Composite(observed, shape=batch)
        # a step needs no more than what was observed
        self.state_spec = self.observation_spec.clone()
        self.action_spec = Unbounded(event, device, dtype)
        self.reward_spec = Unbounded(column, device, self.process.reward_dtype)
        done = {key: Binary(1, column, device, torch.bool) for key in ("done", "terminated")}
        self.done_spec = Composite(done, shape=batch)

    def _reset(self, tensordict: TensorDictBase | None = None, **_) -> TensorDict:
        n = self.batch_size[0]
        state, condition = self.process.start(n, self.generator)
        step, shift = torch.zeros(n, 1, dtype=torch.int64), self.process.shifts(n, self.generator)
        fresh = self._observed(state, step, shift[:, None], condition)
        again = None if tensordict is None else tensordict.get("_reset", None)
        if tensordict is not None and again is not None and not again.all():
            rows = again.reshape(n)
            for key in fresh.keys():
                kept, new = tensordict[key], fresh[key]
                fresh[key] = torch.where(rows.reshape(n, *[1] * (new.ndim - 1)), new, kept)
        return fresh

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        action, condition = tensordict["action"], tensordict.get("condition", None)
        self.process.check_action(action, len(tensordict))
        step = tensordict["step"] + 1
        latest = int(step.max())
        if latest > self.process.steps:
            raise ValueError("an episode is stepped beyond its end: reset it first")
        ended = step[:, 0] == self.process.steps
        reward = torch.zeros_like(step, dtype=self.process.reward_dtype)
        if latest == self.process.steps:
            given = None if condition is None else condition[ended]
            worth = self.process.finish(action[ended], given)
            reward[ended] = worth.to(reward)[:, None]
        if self.kl_weight:
            ratio = self._log_ratio(tensordict)[:, None]
            reward = reward - self.kl_weight * ratio.to(reward)
        done = ended[:, None]
        out = self._observed(action, step, tensordict["shift"], condition)
        return out.update({"reward": reward, "done": done, "terminated": done.clone()})

    def _observed(
        self, state: Tensor, step: Tensor, shift: Tensor, condition: Tensor | None
    ) -> TensorDict:
        step, shift = step.to(state.device), shift.to(state.device)
        due = (step + 1).clamp(max=self.process.steps)
        found = {
            "state": state,
            "time": self.process.time(step, shift),
            "target_time": self.process.time(due, shift),
            "step": step,
            "shift": shift,
        }
        if condition is not None:
            found["condition"] = condition
        return TensorDict(found, batch_size=self.batch_size, device=self.device)

    @torch.no_grad()
    def _log_ratio(self, tensordict: TensorDictBase) -> Tensor:
        """log q - log p of the actions, (N,)."""
        if "action_log_prob" not in tensordict.keys():
            raise ValueError(
                "kl_weight needs the actor's `action_log_prob` (N,) beside its action: "
                "return_log_prob=True of ProbabilisticActor writes it"
            )
        base = self._moments(tensordict.exclude("loc", "scale", inplace=False))
        density = StepDistribution(base["loc"], base["scale"], validate_args=False)
        return tensordict["action_log_prob"] - density.log_prob(tensordict["action"])

    def _set_seed(self, seed: int | None) -> None:
        self.generator = torch.Generator().manual_seed(seed or 0)
