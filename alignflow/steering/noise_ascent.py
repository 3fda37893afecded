r"""Gradient ascent of the reward on the initial noise, before any step.

.. math:: x_0 \leftarrow x_0 + \eta\, \mathrm{clip}\big(\nabla [\lambda r(X_{0,1}(x_0))
    + \beta K(x_0)]\big), \qquad K(x) = (d-1) \log|x| - \tfrac12 |x|^2

K is the log-density of the norm of standard normal noise: it keeps x_0 where noise lies.

Source: ReNO (2406.04312). It maximizes reward: what it samples is not the tilt.
"""

import torch

from alignflow import checks
from alignflow.graph import Node

__all__ = ["KeepBest", "NoiseAscent"]


class NoiseAscent(Node):
    """One step of ascent on the noise; stores the best noise so far.

    Args:
        iterations: Steps of ascent.
        step_size: eta, per unit of the clipped gradient.
        clip: Longest gradient.
        regularization: beta.
    """

    reads = ("state", "value_gradient", "endpoint_reward")
    optional = ("best_state", "best_reward")
    writes = ("state", "best_state", "best_reward")

    def __init__(self, iterations: int, step_size: float, clip: float, regularization: float):
        super().__init__()
        self.iterations = checks.count("iterations", iterations)
        self.step_size = checks.positive("step_size", step_size)
        self.clip = checks.positive("clip", clip)
        self.regularization = checks.nonnegative("regularization", regularization)

    def forward(self, tensordict):
        state, gradient, reward = (self.read(tensordict, key) for key in self.reads)
        reward = reward[:, 0]
        best, record = self.read(tensordict, "best_state"), self.read(tensordict, "best_reward")
        shape = (-1, *[1] * (state.ndim - 1))
        if best is not None:
            better = reward > record
            best = torch.where(better.reshape(shape), state, best)
            record = torch.where(better, reward, record)
        else:
            best, record = state, reward
        square = state.flatten(1).square().sum(1).reshape(shape)
        dimension = state[0].numel()
        ascent = gradient + self.regularization * ((dimension - 1) / square - 1) * state
        length = ascent.flatten(1).norm(dim=1).reshape(shape)
        ascent = ascent * (self.clip / length.clamp_min(self.clip))
        moved = state + self.step_size * ascent
        return self.write(tensordict, state=moved, best_state=best, best_reward=record)

    def extra_repr(self) -> str:
        return f"step_size={self.step_size:g}, {self.iterations} iterations"


class KeepBest(Node):
    """The best noise becomes the state."""

    reads = ("best_state",)
    writes = ("state",)

    def forward(self, tensordict):
        return self.write(tensordict, state=self.read(tensordict, "best_state"))
