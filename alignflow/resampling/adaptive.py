"""Sequential Monte Carlo: particles weighed on their way, and resampled when few of them count."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.reward_module import log_tilt

from .potentials import Potential, Work
from .resamplers import Resampler
from .schemes import SCHEMES, effective_sample_size, normalize_weights, systematic, uniforms

__all__ = ["AdaptiveResampling"]


class AdaptiveResampling(Resampler):
    """Weighs particles by a potential, and resamples the systems whose ESS falls too low.

    The weights that resampling spends are kept as the mean that all particles go on with, and those
    of the end are returned, never dropped.

    Args:
        strength: lambda of the tilt.
        particles: M, of each system.
        potential: What they are weighed by.
        scheme: "systematic", "residual", "ssp" or "multinomial".
        threshold: A system is resampled when its ESS is below this share of M; 0 never, 1 always.
    """

    reads = ("time", "value", "resampling_noise")
    optional = ("log_weight", "log_ratio")
    writes = ("log_weight",)
    noise = ("resampling_noise",)
    whole_batch = True

    def __init__(
        self,
        strength: float,
        particles: int,
        potential: Potential | Work | None = None,
        scheme: str = "systematic",
        threshold: float = 0.5,
    ):
        super().__init__()
        self.strength = checks.nonnegative("strength", strength)
        self.particles = checks.count("particles", particles)
        self.potential = Potential() if potential is None else potential
        self.scheme = checks.choice("scheme", scheme, SCHEMES)
        self.threshold = checks.fraction("threshold", threshold)
        self.weighs_moves = isinstance(self.potential, Potential)
        self.carries = ("log_weight", *self.potential.carries, "log_ratio")

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        uniform = uniforms((len(tensordict),), generator, tensordict["state"].device)
        self.write(tensordict, resampling_noise=uniform)

    def forward(self, tensordict):
        value = self.read(tensordict, "value")
        log_weight = self._weighed(tensordict, self.potential.weigh(tensordict, value))
        self.write(tensordict, log_weight=log_weight)
        systems = log_weight.unflatten(0, (-1, self.particles))
        low = effective_sample_size(systems) < self.threshold * self.particles
        if self.threshold == 1:
            low = torch.ones_like(low)  # even where all weights are equal
        if not low.any():
            return tensordict
        chosen = self._chosen(systems, self.read(tensordict, "resampling_noise"), low)
        tensordict = tensordict[chosen]
        # their weights are spent: each goes on with the mean, which the normalizer is made of
        mean = systems.logsumexp(-1, keepdim=True) - torch.tensor(self.particles).log()
        kept = torch.where(low.unsqueeze(-1), mean.expand_as(systems), systems)
        return self.write(tensordict, log_weight=kept.flatten())

    def finish(self, tensordict):
        exponent = log_tilt(self.read(tensordict, "reward"), self.strength)
        increment = self.potential.finish(tensordict, exponent)
        return self.write(tensordict, log_weight=self._weighed(tensordict, increment))

    def choose(self, reward, log_weight, generator=None):
        return systematic(log_weight, 1, generator).squeeze(-1)

    def _weighed(self, tensordict: TensorDictBase, increment: Tensor) -> Tensor:
        last, ratio = self.read(tensordict, "log_weight"), self.read(tensordict, "log_ratio")
        if last is None:
            return increment
        if ratio is not None and self.weighs_moves:
            increment = increment + ratio
        # a particle that was dropped stays so, whatever comes
        return torch.where(last == -torch.inf, last, last + increment)

    def _chosen(self, systems: Tensor, uniform: Tensor, low: Tensor) -> Tensor:
        """Rows (B,) of the batch, those of systems with enough particles left in place."""
        weights = normalize_weights(systems.double())
        drawn = SCHEMES[self.scheme](weights, uniform.unflatten(0, (-1, self.particles)))
        same = torch.arange(self.particles, device=drawn.device).expand_as(drawn)
        start = torch.arange(len(systems), device=drawn.device).unsqueeze(-1) * self.particles
        return (start + torch.where(low.unsqueeze(-1), drawn, same)).flatten()

    def extra_repr(self) -> str:
        return f"{self.potential!r}, {self.scheme}, threshold={self.threshold:g}"
