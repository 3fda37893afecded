r"""A mixture of Gaussians as an exact model: flow, score, posterior, value and tilt in closed form.

.. math:: \rho_1 = \sum_c w_c N(m_c, \Sigma_c) \;\Rightarrow\;
    \rho_t = \sum_c w_c N(t m_c, \, t^2 \Sigma_c + (1-t)^2 I)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.ode import integrate
from alignflow.reward_module import Reward
from alignflow.tilt import Tilt

from .exact import ExactFlowMap
from .gaussians import Gaussians
from .grid import GridDensity
from .quadrature import tilted_moments, tilted_velocity, value_gradient
from .rewards import quadratic_form
from .tilted_gaussians import tilted_gaussians

__all__ = ["GaussianMixture"]


class GaussianMixture(ExactFlowMap):
    """A distribution whose every quantity on the path from noise is known.

    It is a flow map like any other, so a steerer or a tuner takes it as the exact model. Every
    method holds on the whole of [0, 1], ends included.

    Its tilts and values have a closed form in any dimension for `Quadratic` and `Linear` rewards:
    the tilt is another mixture. Any other reward is integrated by quadrature, in one or two
    dimensions: the tilt is a density on a grid, and values have a graph only if the reward is
    differentiable. Their gradients need one of the reward at time 1 only.

    Args:
        weights: (C,), positive; normalized here.
        means: (C, D).
        covariances: (C, D, D), symmetric positive definite.
        tolerance: Of the ODE behind the flow map of more than one component; see `integrate`.

    Raises:
        ValueError: If shapes disagree, or weights or covariances are not what they must be.
    """

    no_condition = "a Gaussian mixture takes no condition"

    weights: Tensor
    means: Tensor
    covariances: Tensor
    centers: Tensor
    variances: Tensor
    axes: Tensor

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        covariances: Tensor,
        tolerance: float | None = None,
    ):
        weights, means = checks.as_tensor("weights", weights), checks.as_tensor("means", means)
        covariances = checks.as_tensor("covariances", covariances)
        _check(weights, means, covariances)
        super().__init__(means.shape[1:])
        variances, axes = torch.linalg.eigh(covariances)
        if (variances <= 0).any():
            raise ValueError(
                "covariances must be positive definite, "
                f"got a smallest eigenvalue of {variances.min().item():.3g}"
            )
        self.tolerance = None if tolerance is None else checks.positive("tolerance", tolerance)
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)
        self.register_buffer("centers", torch.einsum("cji,cj->ci", axes, means))
        self.register_buffer("variances", variances)
        self.register_buffer("axes", axes)

    @property
    def components(self) -> Gaussians:
        """The mixture as algebra."""
        return Gaussians(self.weights.log(), self.centers, self.variances, self.axes)

    def velocity(self, x, t, condition=None):
        """b_t(x) = E[x1 - x0 | x_t = x], (N, D); at time 1 it is x itself."""
        return self.components.velocity(x, self._time(x, t, condition))

    def denoiser(self, x, t, condition=None):
        """E[x1 | x_t = x], (N, D)."""
        return self.components.denoiser(x, self._time(x, t, condition))

    def score(self, x: Tensor, t: float | Tensor) -> Tensor:
        """grad log rho_t(x), (N, D)."""
        return self.components.noised(self._time(x, t)).score(x)

    def flow_map(self, x, s, t, condition=None):
        """X_{s,t}(x), (N, D): closed form for one component, by the ODE for more; t < s inverts."""
        start, end = self._time(x, s, condition), self._time(x, t)
        if len(self.weights) == 1:
            return self.components.transport(x, start, end).squeeze(-2)
        return integrate(self.components.velocity, x, start, end, self.tolerance)

    def log_density(self, x: Tensor, t: float | Tensor = 1.0) -> Tensor:
        """log rho_t(x), (N,), in nats."""
        return self.components.noised(self._time(x, t)).log_density(x)

    def posterior(self, x: Tensor, t: float | Tensor) -> Gaussians:
        """p(x1 | x_t = x), one mixture of C Gaussians for each of N states.

        At time 0 it is the mixture itself, at time 1 the point x.
        """
        return self.components.posterior(x, self._time(x, t))

    def posterior_sample(
        self, x: Tensor, t: float | Tensor, k: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """k independent exact draws of p(x1 | x_t) for each state, (N, k, D).

        The gradient in x holds the chosen components fixed: it is the whole pathwise gradient for
        one component only. `posterior_flow` has it for any number.
        """
        k, generator = checks.count("k", k), checks.as_generator(generator)
        return self.posterior(x, t).sample(k, generator)

    @property
    def has_posterior_flow(self):
        return True

    def posterior_flow(self, noise: Tensor, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        """Exact draws of p(x1 | x_t) as a smooth function of the state: the stochastic flow map.

        Args:
            noise: Standard normal, (N, K, D).
            x: State at time t, (N, D).
            t: Number or (N,) in [0, 1).
            condition: None.

        Returns:
            (N, K, D), differentiable in x: the flow from noise to the posterior, by the ODE.

        Raises:
            ValueError: If some t is 1, where the posterior is the point x.
        """
        time = self._time(x, t, condition)
        _refuse_end(time)
        n, k, d = noise.shape
        states, times = x.repeat_interleave(k, 0), time.repeat_interleave(k)
        posterior = self.components.posterior(states, times)
        draws = integrate(posterior.velocity, noise.reshape(n * k, d), 0.0, 1.0, self.tolerance)
        return draws.reshape(n, k, d)

    def posterior_log_density(self, x1: Tensor, x: Tensor, t: float | Tensor) -> Tensor:
        """log p(x1 | x_t = x) for t < 1: (N,) of endpoints (N, D), or (N, K) of (N, K, D)."""
        time = self._time(x, t)
        _refuse_end(time)
        posterior = self.components.posterior(x, time)
        return (posterior if x1.ndim == 2 else posterior.for_draws()).log_density(x1)

    def tilted_velocity(
        self,
        x: Tensor,
        t: float | Tensor,
        reward: Tilt | Reward | Callable[..., Any],
        strength: float | None = None,
    ) -> Tensor:
        """b*_t(x), (N, D), of the exact tilt, for any t in [0, 1]; arguments as in `value`.

        At time 0 it is E*[x1] - x, at time 1 it is x; the tilted denoiser is x + (1-t) b*.
        """
        time, tilt = self._time(x, t), self._as_tilt(reward, strength)
        if quadratic_form(tilt.reward) is None:
            return tilted_velocity(self.components, x, time, tilt)
        return self._tilted_mixture(tilt)[0].velocity(x, time)

    def on_grid(self, points: int | None = None) -> GridDensity:
        """The same distribution for quadrature, on a box of 10 stds around every mean."""
        reach = 10 * self.covariances.diagonal(dim1=1, dim2=2).sqrt()
        lower, upper = (self.means - reach).amin(0), (self.means + reach).amax(0)
        return GridDensity(self.log_density, lower, upper, points)

    @property
    def device(self) -> torch.device:
        """Where the buffers are."""
        return self.means.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the buffers; noise and samples come in it."""
        return self.means.dtype

    def _draws(self, n: int, generator: torch.Generator | None) -> Tensor:
        return self.components.sample(n, generator)

    def _tilted(self, tilt: Tilt) -> "GaussianMixture | GridDensity":
        if quadratic_form(tilt.reward) is None:
            return self.on_grid().tilted(tilt)
        return self._tilted_mixture(tilt)[0]

    def _value(self, x: Tensor, time: Tensor, tilt: Tilt) -> Tensor:
        if quadratic_form(tilt.reward) is None:
            return tilted_moments(self.components, x, time, tilt).value
        # the tilt moves every marginal by exp V_t, up to its normalizer
        tilted, log_normalizer = self._tilted_mixture(tilt)
        return tilted.log_density(x, time) - self.log_density(x, time) + log_normalizer

    def _value_gradient(self, x: Tensor, time: Tensor, tilt: Tilt) -> Tensor:
        if quadratic_form(tilt.reward) is None:
            return value_gradient(self.components, x, time, tilt)
        return self._tilted_mixture(tilt)[0].score(x, time) - self.score(x, time)

    def _tilted_mixture(self, tilt: Tilt) -> "tuple[GaussianMixture, Tensor]":
        """The tilt by a quadratic form, and log E[exp(strength r)]."""
        log_masses, means, covariances = tilted_gaussians(self.components, tilt)
        # a component without any weight left stays, with the least weight a float can hold
        weights = log_masses.softmax(-1).clamp_min(torch.finfo(means.dtype).tiny)
        tilted = GaussianMixture(weights, means, covariances, self.tolerance)
        return tilted, log_masses.logsumexp(-1)


def _refuse_end(time: Tensor) -> None:
    if (time >= 1).any():
        raise ValueError("at time 1 the posterior is a point: it has no density and no flow")


def _check(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    if means.ndim != 2 or not means.is_floating_point():
        raise ValueError(
            f"means must be floats (C, D), got {means.dtype} of shape {tuple(means.shape)}"
        )
    c, d = means.shape
    if weights.shape != (c,) or covariances.shape != (c, d, d):
        raise ValueError(
            f"{c} means of {d} dimensions need weights ({c},) and covariances ({c}, {d}, {d}), "
            f"got {tuple(weights.shape)} and {tuple(covariances.shape)}"
        )
    if not (weights > 0).all() or not torch.isfinite(weights).all():
        raise ValueError(f"weights must be positive and finite, got {weights.tolist()}")
    if not torch.isfinite(means).all() or not torch.isfinite(covariances).all():
        raise ValueError("means and covariances must be finite, got NaN or infinity")
    rounding = 1e-5 * covariances.abs().max().item()
    if not torch.allclose(covariances, covariances.mT, rtol=0, atol=rounding):
        raise ValueError(f"covariances must be symmetric, got {covariances[0].tolist()} first")
