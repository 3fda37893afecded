r"""Particles that start at the base, and are weighted and resampled as the strength rises.

Before each step's moves the strength of a system rises from f lambda to f' lambda, by so much that
the weights of the rise have a given effective sample size,

.. math:: w = e^{(f' - f) \lambda r}, \qquad \mathrm{ESS}(w) = \kappa M, \qquad f' \le 1

and the particles are resampled by them; the moves, which leave the tilt of strength f' lambda
invariant, part the copies. Consistent as M grows; the mean weights of all rises multiply to an
estimate of E e^{lambda r}. What is left of the strength after the last step is in the weights.

Sources: SMC samplers (Del Moral, Doucet and Jasra 2006), the rise by the effective sample size
(Jasra et al. 2011).
"""

import math

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks, draws
from alignflow.resampling import SCHEMES, resampled_rows, systematic
from alignflow.tilt import Tilt

from .acceptance import strength_of_rows
from .population import Population

__all__ = ["Tempering", "next_fraction"]

HALVINGS = 50  # of the interval in which a fraction is searched


def next_fraction(exponent: Tensor, fraction: Tensor, threshold: float) -> Tensor:
    """The largest fraction of the strength up to which the weights have the effective size, (S,).

    Args:
        exponent: lambda r of the particles of each system, (S, M); -inf for one that was dropped,
            which counts nowhere.
        fraction: That each system is at, (S,).
        threshold: ESS of the weights, as a fraction of the particles that count.
    """
    count = (exponent > -torch.inf).sum(-1)

    def enough(raised: Tensor) -> Tensor:
        weight = strength_of_rows(exponent, raised - fraction).softmax(-1)
        return 1 / weight.square().sum(-1) >= threshold * count

    low, high = fraction, torch.ones_like(fraction)
    whole = enough(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = enough(middle)
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return torch.where(whole, 1.0, low)


class Tempering(Population):
    """Raises the strength of each system, and resamples its particles by the weights of the rise.

    Args:
        tilt: Weighs the samples.
        particles: M, of each system.
        threshold: ESS of the weights of a rise, as a fraction of M. The lower, the steeper, and
            the more copies for the moves to part.
        scheme: "systematic", "residual", "ssp" or "multinomial".
    """

    reads = ("reward", "tilt_fraction", "resampling_noise")
    optional = ("log_weight",)
    writes = ("tilt_fraction", "log_weight", "ancestor")
    noise = ("resampling_noise",)
    carries = ("log_weight",)

    def __init__(
        self, tilt: Tilt, particles: int, threshold: float = 0.9, scheme: str = "systematic"
    ):
        super().__init__(tilt, particles)
        if particles == 1:
            raise ValueError(
                "tempering weighs the particles of a system against each other, so it takes "
                "several: particles=64, say"
            )
        self.threshold = checks.fraction("threshold", threshold, zero=False, one=False)
        self.scheme = checks.choice("scheme", scheme, SCHEMES)

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        reward = self.read(tensordict, "reward")
        uniform = draws.uniform(reward.shape, generator, torch.float64, reward.device)
        self.write(tensordict, resampling_noise=uniform)

    def forward(self, tensordict):
        exponent, fraction = self._exponent(tensordict), self._fraction(tensordict)
        raised = next_fraction(exponent, fraction, self.threshold)
        # as it is stored, so that the weights are those of the rise that there is
        raised = raised.to(self.read(tensordict, "tilt_fraction")).double()
        weight = strength_of_rows(exponent, raised - fraction)
        rises = raised > fraction
        rows = resampled_rows(weight, self.read(tensordict, "resampling_noise"), rises, self.scheme)
        mean = torch.where(rises, weight.logsumexp(-1) - math.log(self.particles), 0.0)
        last = self.read(tensordict, "log_weight")
        mean = self._of_rows(mean) if last is None else last + self._of_rows(mean)
        tensordict = tensordict[rows]
        return self.write(
            tensordict,
            tilt_fraction=self._of_rows(raised).to(tensordict["tilt_fraction"]),
            log_weight=mean,
            ancestor=rows,
        )

    def finish(self, tensordict):
        left = strength_of_rows(self._exponent(tensordict), 1 - self._fraction(tensordict))
        log_weight = self.read(tensordict, "log_weight") + left.flatten()
        return self.write(tensordict, log_weight=log_weight)

    def choose(self, reward, log_weight, generator=None):
        return systematic(log_weight, 1, generator).squeeze(-1)

    def _exponent(self, tensordict: TensorDictBase) -> Tensor:
        """lambda r of the particles of each system, (S, M), in float64."""
        exponent = self.tilt.log_weight(self.read(tensordict, "reward")).double()
        return exponent.unflatten(0, (-1, self.particles))

    def _fraction(self, tensordict: TensorDictBase) -> Tensor:
        """Of the strength, of each system, (S,), in float64."""
        return self.read(tensordict, "tilt_fraction")[:: self.particles].double()

    def _of_rows(self, systems: Tensor) -> Tensor:
        return systems.repeat_interleave(self.particles)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold:g}, {self.scheme}"
