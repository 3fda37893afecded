r"""Steps with noise: Gaussian transitions whose density is known.

.. math:: x_{t'} = m(x_t) + \sigma\epsilon, \qquad
    \log\frac{p}{q} = -\epsilon\cdot\delta - \tfrac12 |\delta|^2, \quad
    \delta = \frac{m_q - m_p}{\sigma}

p is the base's transition, q the corrected one that was taken. The step to time 1 has no noise.
"""

from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.cost import Cost, forwards_of_call
from alignflow.flow_map import FlowMap
from alignflow.interpolants import denoiser_from_velocity, expand_time

from .base import NoisyTransition

__all__ = ["SDE", "Anchored", "memoryless_spread"]


def memoryless_spread(t: Tensor, target: Tensor) -> Tensor:
    """Standard deviation (N,) of x_{t'} given x_t and x_1 on a memoryless path.

    It is s (1-t') / (1-t) with s^2 = (1-t)^2 - (t/t')^2 (1-t')^2, and 1-t' for a start at time 0.
    """
    kept = (t / target * (1 - target)).square()
    return ((1 - t).square() - kept).clamp_min(0).sqrt() * (1 - target) / (1 - t)


class GaussianTransition(NoisyTransition):
    """A step to a mean, with noise about it."""

    writes = ("state", "time", "log_ratio")
    has_density = True

    def moments(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (B, *E) and standard deviation (B,) of the base's step, and what a correction of
        the velocity moves the mean by, as a factor (B,)."""
        raise NotImplementedError

    def forward(self, tensordict):
        noise, target = (self.read(tensordict, key) for key in ("step_noise", "target_time"))
        mean, spread, factor = self.moments(tensordict)
        moved, log_ratio = mean + expand_time(spread, noise) * noise, torch.zeros_like(spread)
        correction = self.read(tensordict, "correction")
        if correction is not None:
            moved = moved + expand_time(factor, noise) * correction
            # without noise there is no density: a weight is then the resampler's to refuse
            relative = torch.where(spread > 0, factor / spread, 0.0)
            shift = (expand_time(relative, noise) * correction).flatten(1)
            log_ratio = -(noise.flatten(1) * shift).sum(1) - shift.square().sum(1) / 2
        return self.write(tensordict, state=moved, time=target, log_ratio=log_ratio)


class SDE(GaussianTransition):
    r"""A step of the SDE with the flow's marginals, in a form that diverges nowhere.

    .. math::
        x_{t'} = t' D + \sqrt{(1-t')^2 - \sigma^2}\; \frac{x_t - t D}{1-t} + \sigma\epsilon,
        \qquad \sigma = \eta\, \sigma_\text{memoryless}

    In short steps it is dx = [b + g^2/2 score + (c_t + g^2/2) grad V] dt + g dW with
    g^2 = 2 eta^2 c_t; eta = 0 is Euler's step, and a corrected velocity is a corrected D.

    Long steps lack the spread of x_1 about D, and what they draw is too narrow. For normal data of
    deviation d it is known, and with it such data keep their marginals at any step length.

    Args:
        noise: eta, a share of the memoryless noise; "memoryless" is 1. A call of times (N,) that
            gives g_t (N,) is any other schedule, as far as the noise stays below 1-t'.
        data_deviation: d, with 0 for none. The step to time 1 stays without noise.
    """

    reads = ("state", "time", "target_time", "step_noise", "velocity")

    def __init__(
        self,
        noise: float | str | Callable[[Tensor], Tensor] = "memoryless",
        data_deviation: float = 0.0,
    ):
        super().__init__()
        if not data_deviation >= 0:
            raise ValueError(f"data_deviation must not be negative, got {data_deviation}")
        if isinstance(noise, str) and noise != "memoryless":
            raise ValueError(f"noise must be a number, 'memoryless' or a call, got {noise!r}")
        if isinstance(noise, float | int) and not noise >= 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        self.share = 1.0 if noise == "memoryless" else noise
        self.data_deviation = data_deviation

    def moments(self, tensordict):
        keys = ("state", "time", "target_time", "velocity")
        x, t, target, velocity = (self.read(tensordict, key) for key in keys)
        spread = self._share(t) * memoryless_spread(t, target)
        spread = torch.minimum(spread, 1 - target)
        rest = ((1 - target).square() - spread.square()).clamp_min(0).sqrt()
        denoiser = denoiser_from_velocity(x, t, velocity)
        # x - t D over 1 - t is x - t b: the noise that the state is taken to hold
        noise = x - expand_time(t, x) * velocity
        mean = expand_time(target, x) * denoiser + expand_time(rest, x) * noise
        factor = target * (1 - t) - rest * t
        if self.data_deviation:
            # of x_1 about D it is d (1-t) / hypot(d t, 1-t), and x_1 has the weight factor / (1-t)
            about = self.data_deviation * factor / torch.hypot(self.data_deviation * t, 1 - t)
            spread = torch.hypot(spread, torch.where(target < 1, about, 0.0))
        return mean, spread, factor

    def _share(self, t: Tensor) -> Tensor:
        if not callable(self.share):
            return torch.full_like(t, self.share)
        # g_t / sqrt(2 c_t)
        return self.share(t) * (t / (2 * (1 - t))).sqrt()

    def extra_repr(self) -> str:
        noise = "g_t" if callable(self.share) else f"noise={self.share:g}"
        deviation = f", data_deviation={self.data_deviation:g}" if self.data_deviation else ""
        return noise + deviation


class Anchored(GaussianTransition):
    r"""A jump beyond the target, and back to it with noise: the marginals hold at any step length.

    .. math:: y = X_{t,a}(x_t), \qquad
        x_{t'} = \frac{t'}{a} y + \sqrt{(1-t')^2 - \tfrac{t'^2}{a^2} (1-a)^2}\;\epsilon

    Args:
        model: The frozen flow map.
        anchor: How far beyond, as a share of what is left: a = t' + anchor (1-t'). With 1 it is
            plain renoising of the endpoint.

    Source: anchored stochastic composition of Flow-Map GRPO (2607.00535).
    """

    optional = ("correction", "condition")

    def __init__(self, model: FlowMap, anchor: float = 0.5):
        super().__init__()
        if not 0 < anchor <= 1:
            raise ValueError(f"anchor must lie in (0, 1], got {anchor}")
        self.model, self.anchor = model, anchor

    @property
    def cost(self) -> Cost:
        return Cost(nfe=forwards_of_call(self.model))

    def moments(self, tensordict):
        x, t, target = (self.read(tensordict, key) for key in self.reads[:3])
        anchor = target + self.anchor * (1 - target)
        moved = self.model.flow_map(x, t, anchor, self.read(tensordict, "condition"))
        kept = target / anchor
        spread = (1 - target).square() - (kept * (1 - anchor)).square()
        return expand_time(kept, x) * moved, spread.clamp_min(0).sqrt(), kept * (anchor - t)

    def extra_repr(self) -> str:
        return f"anchor={self.anchor:g}"
