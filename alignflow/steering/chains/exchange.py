r"""Replicas at strengths from 0 to that of the tilt, which exchange their samples.

Neighbors at strengths a and b exchange with probability

.. math:: \min\big(1, e^{(a - b)(r(x_b) - r(x_a))}\big)

even and odd pairs in turn. At low strengths most moves are accepted, long ones too, so that what is
rare is found there and handed up.

Sources: parallel tempering (Geyer 1991; in turn: Syed et al. 2022); for diffusions CREPE
(2509.23265).
"""

import torch
from tensordict import TensorDictBase

from alignflow import draws
from alignflow.resampling.resamplers import equal_weight
from alignflow.tilt import Tilt

from .population import Population

__all__ = ["Exchange"]


class Exchange(Population):
    """Neighboring replicas exchange what belongs to their samples.

    The last replica, at full strength, is the system's sample; the others weigh nothing.

    Args:
        tilt: Weighs the samples.
        particles: M, replicas of each system, side by side, at growing strengths.
        exchanges: Keys beside `state` and `reward` that belong to a sample.
    """

    reads = ("state", "reward", "tilt_fraction", "step", "exchange_noise")
    writes = ("state", "reward")
    noise = ("exchange_noise",)

    def __init__(self, tilt: Tilt, particles: int, exchanges: tuple[str, ...] = ()):
        super().__init__(tilt, particles)
        self.exchanges = exchanges

    def fractions(self):
        return torch.linspace(0, 1, self.particles)

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        reward = self.read(tensordict, "reward")
        uniform = draws.uniform(reward.shape, generator, torch.float64, reward.device)
        self.write(tensordict, exchange_noise=uniform)

    def forward(self, tensordict):
        state, reward, fraction, step, uniform = (self.read(tensordict, key) for key in self.reads)
        rows = torch.arange(len(reward), device=reward.device)
        replica = rows % self.particles
        # of the pair (2k, 2k + 1) in an even step, of (2k + 1, 2k + 2) in an odd one
        up = (replica + step) % 2 == 0
        partner = torch.where(up, rows + 1, rows - 1)
        paired = torch.where(up, replica + 1 < self.particles, replica > 0)
        partner = torch.where(paired, partner, rows)
        log_weight = self.tilt.log_weight(reward).double()
        ratio = (fraction - fraction[partner]).double() * (log_weight[partner] - log_weight)
        chance = uniform[torch.minimum(rows, partner)]
        source = torch.where(paired & (chance.log() < ratio), partner, rows)
        values = {key: tensordict[key][source] for key in self.exchanges}
        return self.write(tensordict, state=state[source], reward=reward[source]).update(values)

    def finish(self, tensordict):
        reward = self.read(tensordict, "reward")
        rows = torch.arange(len(reward), device=reward.device)
        last = rows % self.particles == self.particles - 1
        return self.write(tensordict, log_weight=equal_weight(reward).where(last, -torch.inf))

    def choose(self, reward, log_weight, generator=None):
        return torch.full(reward.shape[:1], self.particles - 1, device=reward.device)
