"""Episodes of the denoising environment with its actor, against a plain loop of the same math.

    python scripts/bench/environment.py [--threads 1]

Between them stands what torchrl asks for by itself: an environment whose steps do nothing, with an
actor that only calls the network and draws.
"""

import argparse

import torch
from page import write_page
from side_by_side import compare
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Binary, Composite, Unbounded
from torchrl.envs import EnvBase
from torchrl.envs.utils import set_exploration_type
from torchrl.modules import IndependentNormal, ProbabilisticActor

import alignflow as af
from alignflow.envs import DenoisingEnv, denoising_actor
from alignflow.flow_map import FlowMap
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.reward_module import Reward
from alignflow.rewards import Brightness
from alignflow.targets import ring_reward

STEPS = 16
POINTS, IMAGES = (64, 1024, 8192), (64, 1024)  # episodes at once


def by_hand(policy: FlowMap, reward: Reward, batch: int):
    """The memoryless SDE in plain torch, with the log-density of each step."""

    @torch.no_grad()
    def episode():
        x, log_prob = torch.randn(batch, *policy.event_shape), None
        for k in range(STEPS):
            s, t = k / STEPS, (k + 1) / STEPS
            velocity = policy.velocity(x, s)
            std = ((1 - s) ** 2 - (s / t * (1 - t)) ** 2) ** 0.5 * (1 - t) / (1 - s)
            rest = max((1 - t) ** 2 - std**2, 0.0) ** 0.5
            mean = t * (x + (1 - s) * velocity) + rest * (x - s * velocity)
            noise = torch.randn_like(x)
            x = mean + std * noise
            if not torch.isfinite(x).all():
                raise ValueError("an action holds NaN or infinity")
            log_prob = -noise.flatten(1).square().sum(1) / 2
        return reward.score(x, decode=policy.decode), log_prob

    return episode


class Idle(EnvBase):
    """The keys that a denoising step cannot do without, and no work."""

    def __init__(self, event: torch.Size, batch: int):
        super().__init__(batch_size=torch.Size([batch]))
        states, column = self.batch_size + event, self.batch_size + (1,)
        observed = {"state": Unbounded(states), "time": Unbounded(column)}
        self.observation_spec = Composite(observed, shape=self.batch_size)
        self.state_spec = self.observation_spec.clone()
        self.action_spec, self.reward_spec = Unbounded(states), Unbounded(column)
        flags = {key: Binary(1, column, dtype=torch.bool) for key in ("done", "terminated")}
        self.done_spec = Composite(flags, shape=self.batch_size)
        self.states = states
        self.nothing, self.never = torch.zeros(column), torch.zeros(column, dtype=torch.bool)

    def _reset(self, tensordict: TensorDictBase | None = None, **_) -> TensorDict:
        start = {"state": torch.randn(self.states), "time": self.nothing}
        return TensorDict(start, self.batch_size)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        moved = {"state": tensordict["action"], "time": tensordict["time"] + 1 / STEPS}
        ends = {"reward": self.nothing, "done": self.never, "terminated": self.never}
        return TensorDict({**moved, **ends}, self.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        del seed


class Guess(nn.Module):
    """A mean and a standard deviation from one call of the network."""

    def __init__(self, policy: FlowMap):
        super().__init__()
        self.policy = policy

    def forward(self, state: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy.velocity(state, time[:, 0]), torch.ones_like(state)


def by_torchrl(policy: FlowMap, batch: int):
    guess = TensorDictModule(Guess(policy), in_keys=["state", "time"], out_keys=["loc", "scale"])
    actor = ProbabilisticActor(
        guess,
        in_keys=["loc", "scale"],
        distribution_class=IndependentNormal,
        distribution_kwargs={"event_dim": len(policy.event_shape)},
        return_log_prob=True,
    )
    return rollout(Idle(policy.event_shape, batch), actor)


def by_environment(policy: FlowMap, reward: Reward, batch: int):
    env = DenoisingEnv(policy, reward, STEPS, num_envs=batch)
    return rollout(env, denoising_actor(policy))


def rollout(env: EnvBase, actor: nn.Module):
    @torch.no_grad()
    def episode():
        with set_exploration_type("random"):
            return env.rollout(STEPS, actor, break_when_any_done=False)

    return episode


def section(title: str, policy: FlowMap, reward: Reward, batch: int, rounds: int) -> str:
    calls = {
        "plain torch": by_hand(policy, reward, batch),
        "torchrl, an environment that does nothing": by_torchrl(policy, batch),
        "alignflow": by_environment(policy, reward, batch),
    }
    return compare(f"{title}, {batch:,} episodes", "plain torch", calls, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    points = FlowMapPolicy(MLP(2), (2,))
    sections = [section("MLP 256 x 3", points, ring_reward(), batch, 41) for batch in POINTS]
    digits = af.load("digits")
    title = "The network of the digits"
    sections += [section(title, digits, Brightness(), batch, 3) for batch in IMAGES]
    about = (
        f"Episodes of {STEPS} steps. Calls alternate in one process; a ratio is of one round. The "
        "plain loop keeps only its last state and log-density, the others whole paths."
    )
    write_page("environment", "The denoising environment against a plain loop", about, *sections)


if __name__ == "__main__":
    main()
