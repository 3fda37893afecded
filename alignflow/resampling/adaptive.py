"""Sequential Monte Carlo: particles weighted at every step, and resampled at a low ESS."""

import math

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks, draws
from alignflow.tilt import Tilt

from .potentials import Potential, Work
from .resamplers import Resampler
from .schemes import SCHEMES, resampled_rows, systematic

__all__ = ["AdaptiveResampling"]


class AdaptiveResampling(Resampler):
    """Weights particles by a potential, and resamples the systems whose ESS falls too low.

    Resampled particles go on with the mean weight of their system, which estimates its normalizer;
    the final weights are returned.

    Args:
        tilt: Gives the final weights.
        particles: M, of each system.
        potential: What they are weighted by.
        scheme: "systematic", "residual", "ssp" or "multinomial".
        threshold: A system is resampled when its ESS is below this fraction of M; 0 never, 1
            always.
    """

    reads = ("time", "value", "resampling_noise")
    optional = ("log_weight", "log_ratio")
    writes = ("log_weight",)
    noise = ("resampling_noise",)
    whole_batch = True

    def __init__(
        self,
        tilt: Tilt,
        particles: int,
        potential: Potential | Work | None = None,
        scheme: str = "systematic",
        threshold: float = 0.5,
    ):
        super().__init__()
        self.tilt = tilt
        self.particles = checks.count("particles", particles)
        self.potential = Potential() if potential is None else potential
        self.scheme = checks.choice("scheme", scheme, SCHEMES)
        self.threshold = checks.fraction("threshold", threshold)
        self.weighs_moves = isinstance(self.potential, Potential)
        self.carries = ("log_weight", *self.potential.carries, "log_ratio")

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        shape, device = (len(tensordict),), tensordict["state"].device
        uniform = draws.uniform(shape, generator, torch.float64, device)
        self.write(tensordict, resampling_noise=uniform)

    def forward(self, tensordict):
        value = self.read(tensordict, "value")
        log_weight = self._weighed(tensordict, self.potential.weigh(tensordict, value))
        self.write(tensordict, log_weight=log_weight)
        systems = log_weight.unflatten(0, (-1, self.particles))
        # NaN for a system whose particles were all dropped, which is refused at the end
        ess = 1 / systems.softmax(-1).square().sum(-1)
        low = ess < self.threshold * self.particles
        if self.threshold == 1:
            low = torch.isfinite(ess)  # even where all weights are equal
        # a GPU would wait for the answer
        if low.device.type == "cpu" and not low.any():
            return tensordict
        uniform = self.read(tensordict, "resampling_noise")
        tensordict = tensordict[resampled_rows(systems, uniform, low, self.scheme)]
        mean = systems.logsumexp(-1, keepdim=True) - math.log(self.particles)
        weights = torch.where(low.unsqueeze(-1), mean.expand_as(systems), systems)
        return self.write(tensordict, log_weight=weights.flatten())

    def finish(self, tensordict):
        exponent = self.tilt.log_weight(self.read(tensordict, "reward"))
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

    def extra_repr(self) -> str:
        return f"{self.potential!r}, {self.scheme}, threshold={self.threshold:g}"
