"""Models that start exact, so that what a tuner does to them can be told to the digit."""

import pytest
import torch
from torch import nn

from alignflow.finetuning import METHODS, Problem
from alignflow.interpolants import expand_time
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.reward_module import reward
from alignflow.tilt import Tilt


class NormalMap(nn.Module):
    """The exact map of standard normal data, plus an MLP that starts at zero and can be tuned."""

    def __init__(self, dimension: int = 1, width: int = 32):
        super().__init__()
        self.change = MLP(dimension, width=width, depth=2)
        last = self.change.rest[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x, s, t):
        a, b = (time**2 + (1 - time) ** 2 for time in (s, t))
        # X_{s,t} = x sqrt(b/a), and its average velocity without the 0/0 at s = t
        slope = 2 * (s + t - 1) / (a.sqrt() * (a.sqrt() + b.sqrt()))
        return expand_time(slope, x) * x + self.change(x, s, t)


@pytest.fixture(scope="session")
def bind():
    """The loss of a method, a name or a class with its options, for a policy and a tilt."""

    def bound(
        method, policy, reward, strength, *, base=None, condition=None, generator=None, **options
    ):
        kind = METHODS[method] if isinstance(method, str) else method
        seeded = {} if generator is None else {"generator": generator}
        problem = Problem(policy, Tilt(reward, strength), base, condition, **seeded)
        return kind(**options).bind(problem)

    return bound


@pytest.fixture(scope="session")
def normal():
    """A policy whose distribution is N(0, 1) exactly, at any number of steps."""
    torch.manual_seed(0)
    return FlowMapPolicy(NormalMap(), (1,))


@pytest.fixture(scope="session")
def first():
    """The reward x_1, whose tilt of N(0, 1) is N(strength, 1)."""
    return reward(differentiable=True, name="first")(lambda x: x[:, 0])
