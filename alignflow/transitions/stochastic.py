r"""Steps with noise: Gaussian transitions whose density is known.

.. math:: x_{t'} = m(x_t) + \sigma\epsilon, \qquad
    \log\frac{p}{q} = -\epsilon\cdot\delta - \tfrac12 |\delta|^2, \quad
    \delta = \frac{m_q - m_p}{\sigma}

p is the transition of the model, q the corrected one. The step to time 1 has no noise, and under
some schedules others have none: a correction there has density ratio 0.
"""

from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time

from .base import NoisyTransition
from .memoryless import memoryless_std, step_coefficients, step_mean

__all__ = ["SDE", "Anchored"]


class GaussianTransition(NoisyTransition):
    """A Gaussian step: a mean, plus noise of a known std."""

    writes = ("state", "time", "log_ratio")
    has_density = True

    def moments(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (B, *E) and standard deviation (B,) of the model's step, and the factor (B,) by
        which a correction of the velocity moves the mean."""
        raise NotImplementedError

    def forward(self, tensordict):
        noise, target = (self.read(tensordict, key) for key in ("step_noise", "target_time"))
        mean, std, factor = self.moments(tensordict)
        moved, log_ratio = mean + expand_time(std, noise) * noise, torch.zeros_like(std)
        correction = self.read(tensordict, "correction")
        if correction is not None:
            shift = (expand_time(factor, noise) * correction).flatten(1)
            moved, still = moved + shift.view_as(moved), (shift == 0).all(1)
            shift = shift / torch.where(std > 0, std, 1.0).unsqueeze(1)
            log_ratio = -(noise.flatten(1) * shift).sum(1) - shift.square().sum(1) / 2
            log_ratio = log_ratio.masked_fill((std == 0) & ~still, -torch.inf)
        return self.write(tensordict, state=moved, time=target, log_ratio=log_ratio)


class SDE(GaussianTransition):
    r"""A step of the SDE with the flow's marginals, in a form that is finite at times 0 and 1.

    .. math::
        x_{t'} = t' D + \sqrt{(1-t')^2 - \sigma^2}\; \frac{x_t - t D}{1-t} + \sigma\epsilon,
        \qquad \sigma = \eta\, \sigma_\text{memoryless}

    In short steps it is dx = [b + g^2/2 score + (c_t + g^2/2) grad V] dt + g dW with
    g^2 = 2 eta^2 c_t; eta = 0 is Euler's step, and a corrected velocity is a corrected D.

    Long steps lack the std of x_1 about D, and what they draw is too narrow. For normal data it is
    known, and with `data_std` such data keep their marginals at any step length.

    Args:
        noise: eta, a fraction of the memoryless noise; "memoryless" is 1. A callable from times
            (N,) to g_t (N,) is any other schedule, as far as the noise stays below 1-t'. It may
            diverge at time 0, as the memoryless sqrt(2 c_t) does.
        data_std: Standard deviation of the data, such as `policy.data_std`; None holds x_1 at D.
            The step to time 1 has no noise.

    Source: `memoryless_step`, which it is with the noise 1.
    """

    reads = ("state", "time", "target_time", "step_noise", "velocity")

    def __init__(
        self,
        noise: float | str | Callable[[Tensor], Tensor | float] = "memoryless",
        data_std: float | None = None,
    ):
        super().__init__()
        if not callable(noise) and noise != "memoryless":
            if isinstance(noise, str):
                raise ValueError(
                    f"noise must be a number, 'memoryless' or a callable, got {noise!r}"
                )
            noise = checks.nonnegative("noise", noise)
        self.noise_fraction = 1.0 if noise == "memoryless" else noise
        self.data_std = None if data_std is None else checks.nonnegative("data_std", data_std)

    def std(self, time, target):
        self._check_noise(time)
        return self._coefficients(time, target)[0]

    def moments(self, tensordict):
        keys = ("state", "time", "target_time", "velocity")
        x, t, target, velocity = (self.read(tensordict, key) for key in keys)
        std, rest, factor = self._coefficients(t, target)
        return step_mean(x, velocity, t, target, rest), std, factor

    def _coefficients(self, t: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noise_std = self._fraction(t) * memoryless_std(t, target)
        return step_coefficients(t, target, torch.minimum(noise_std, 1 - target), self.data_std)

    def _fraction(self, t: Tensor) -> Tensor:
        """g_t / sqrt(2 c_t), with its limit at time 0."""
        if not callable(self.noise_fraction):
            return torch.full_like(t, self.noise_fraction)
        noise = self._noise(t)
        # where c_t and the noise both diverge, a time at which neither does stands for 0
        tiny = torch.finfo(t.dtype).tiny
        diverges = noise.isinf() & (t == 0)
        t = t.masked_fill(diverges, tiny)
        noise = torch.where(diverges, self._noise(t), noise)
        return noise * (t / (2 * (1 - t))).sqrt()

    def _noise(self, t: Tensor) -> Tensor:
        assert callable(self.noise_fraction)
        return torch.as_tensor(self.noise_fraction(t)).to(t).expand_as(t)

    def _check_noise(self, t: Tensor) -> None:
        """Refuse a schedule that is negative or NaN: once, at the times of a grid."""
        if callable(self.noise_fraction):
            noise = self._noise(t)
            if not (noise >= 0).all():
                worst = t[~(noise >= 0)][0].item()
                raise ValueError(
                    f"the noise g_t must not be negative or NaN, and is at t = {worst:g}"
                )

    def extra_repr(self) -> str:
        noise = "g_t" if callable(self.noise_fraction) else f"noise={self.noise_fraction:g}"
        return noise + (f", data_std={self.data_std:g}" if self.data_std else "")


class Anchored(GaussianTransition):
    r"""A jump beyond the target, and back to it with noise: the marginals hold at any step length.

    .. math:: y = X_{t,a}(x_t), \qquad
        x_{t'} = \frac{t'}{a} y + \sqrt{(1-t')^2 - \tfrac{t'^2}{a^2} (1-a)^2}\;\epsilon

    Args:
        model: The frozen flow map.
        anchor: How far beyond, as a fraction of what is left: a = t' + anchor (1-t'). With 1 it is
            plain renoising of the endpoint.

    Source: anchored stochastic composition of Flow-Map GRPO (2607.00535).
    """

    optional = ("correction", "condition")

    def __init__(self, model: FlowMap, anchor: float = 0.5):
        super().__init__()
        self.model, self.anchor = model, checks.fraction("anchor", anchor, zero=False)

    def moments(self, tensordict):
        x, t, target = (self.read(tensordict, key) for key in self.reads[:3])
        anchor = self._anchor(target)
        moved = self.model.flow_map(x, t, anchor, self.read(tensordict, "condition"))
        scale = target / anchor
        return expand_time(scale, x) * moved, self.std(t, target), scale * (anchor - t)

    def std(self, time, target):
        anchor = self._anchor(target)
        carried = target / anchor * (1 - anchor)
        return ((1 - target).square() - carried.square()).clamp_min(0).sqrt()

    def _anchor(self, target: Tensor) -> Tensor:
        return target + self.anchor * (1 - target)

    def extra_repr(self) -> str:
        return f"anchor={self.anchor:g}"
