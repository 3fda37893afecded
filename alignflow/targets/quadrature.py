r"""Tilted posteriors of a Gaussian mixture under any reward, by quadrature along its axes.

.. math:: x_1 = m_c(x) + (1-t) R_c \xi, \quad \xi \sim N(0, I), \qquad
    R_c R_c^\top = \Sigma_c \, (t^2 \Sigma_c + (1-t)^2 I)^{-1}

is component c of the posterior of :math:`x_1` given :math:`x_t = x`. A regular grid in
:math:`\xi` therefore follows each component wherever it is and however narrow it gets, and with
:math:`\pi_c = E[1_c e^{\lambda r}] / E[e^{\lambda r}]` and
:math:`\mu_c = E[1_c \xi e^{\lambda r}] / E[e^{\lambda r}]` the tilt is

.. math:: \nabla V_t = \sum_c (\pi_c - w_c) \nabla \log \rho_{t,c} + \frac{t}{1-t} R_c \mu_c,
    \qquad b^*_t = \sum_c \pi_c b_{t,c} + R_c \mu_c

where :math:`w_c` are the posterior's weights. The sum over a regular grid converges faster than any
power of its spacing for a smooth reward. A reward with jumps costs an error of the order of the
spacing, which is 0.0024 standard deviations on a line and 0.16 in the plane, and what is finer than
that is not seen.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from alignflow.reward_module import Reward
from alignflow.tilt import Tilt

from .gaussians import Gaussians

__all__ = ["TiltedMoments", "tilted_moments", "tilted_velocity", "value_gradient"]

POINTS = {1: 8192, 2: 128}
"""Of the grid, along each dimension."""
REACH = 10.0
"""The grid covers this many standard deviations to each side."""
EDGE, EDGE_MASS = 0.98, 1e-6
"""With more of the tilted mass beyond this fraction of the reach, the grid is too small for it."""
NODES = 2**20
"""In memory at a time, or those of one state if they are more."""


class TiltedMoments(NamedTuple):
    """Moments of the tilted posteriors of N states."""

    value: Tensor
    """log E[exp(strength r(x1)) | x_t], (N,)."""
    weights: Tensor
    """pi, the components' weights in the tilted posterior, (N, C)."""
    shifts: Tensor
    """mu, the means of xi in each component, times its weight, along its axes, (N, C, D)."""


def tilted_moments(prior: Gaussians, x: Tensor, t: Tensor, tilt: Tilt) -> TiltedMoments:
    """Value, weights and shifts of the tilted posteriors, a few states at a time.

    Args:
        prior: The distribution of x1, in one or two dimensions.
        x: States, (N, D).
        t: Times (N,) in [0, 1]; at 1 the posterior is the state itself.
        tilt: By any reward, which is called on 8192 C points for a state on a line, and on 16384 C
            in the plane.

    Raises:
        ValueError: In more than two dimensions, or if a tilted posterior reaches beyond 10 standard
            deviations of the one it tilts.
    """
    nodes, log_masses = _grid(x)
    rows = max(1, NODES // (len(nodes) * len(prior.axes)))
    with _graph(tilt.reward):
        parts = [
            _moments(prior.posterior(*part), nodes, log_masses, tilt)
            for part in zip(x.split(rows), t.split(rows), strict=True)
        ]
    return TiltedMoments(*map(torch.cat, zip(*parts, strict=True)))


def value_gradient(prior: Gaussians, x: Tensor, t: Tensor, tilt: Tilt) -> Tensor:
    """grad V_t(x), (N, D); of the reward itself a gradient is needed at time 1 only.

    Raises:
        ValueError: As `tilted_moments`; and for a reward without gradient if some t is 1.
    """
    ended = t >= 1
    at_end = _gradient_at_end(tilt, x) if ended.any() else torch.zeros_like(x)
    with _graph(tilt.reward):
        moments, noised = tilted_moments(prior, x, t, tilt), prior.noised(t)
        change = moments.weights - noised.log_joint(x).softmax(-1)
        ratio = t / torch.where(ended, torch.inf, 1 - t)  # no 0/0 in what the end replaces
        shift = ratio.unsqueeze(-1) * _shift(prior, noised, moments)
        before = noised.score(x, change) + shift
    return torch.where(ended.unsqueeze(-1), at_end, before)


def tilted_velocity(prior: Gaussians, x: Tensor, t: Tensor, tilt: Tilt) -> Tensor:
    """b*_t(x), (N, D), for every t in [0, 1]. Raises as `tilted_moments`."""
    with _graph(tilt.reward):
        moments = tilted_moments(prior, x, t, tilt)
        shift = _shift(prior, prior.noised(t), moments)
        return prior.velocity(x, t, moments.weights) + shift


def _shift(prior: Gaussians, noised: Gaussians, moments: TiltedMoments) -> Tensor:
    """The sum of R_c mu_c, (N, D)."""
    return prior.turned((prior.variances / noised.variances).sqrt() * moments.shifts).sum(-2)


def _moments(posterior: Gaussians, nodes: Tensor, log_masses: Tensor, tilt: Tilt) -> TiltedMoments:
    along_axes = posterior.centers.unsqueeze(-2) + posterior.variances.sqrt().unsqueeze(-2) * nodes
    points = torch.einsum("cij,ncqj->ncqi", posterior.axes, along_axes)  # (n, C, Q, D)
    log_weights = tilt.score(points.flatten(0, 2))[1].reshape(points.shape[:-1])
    exponents = posterior.log_weights.unsqueeze(-1) + log_masses + log_weights
    value = exponents.flatten(1).logsumexp(1)
    masses = (exponents - value[:, None, None]).exp()
    at_edge = nodes.abs().amax(1) > EDGE * REACH
    if (masses[..., at_edge].sum((1, 2)) > EDGE_MASS).any():
        raise ValueError(
            f"under reward {tilt.reward.name!r} at strength {tilt.strength} the tilted posterior "
            f"reaches beyond {REACH:g} standard deviations of a component, where quadrature ends"
        )
    return TiltedMoments(value, masses.sum(-1), masses @ nodes)


def _grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Centers (Q, D) of the cells of a box, and their log-masses (Q,) under N(0, I)."""
    d = x.shape[-1]
    if d not in POINTS:
        raise ValueError(
            f"the value of a reward without closed form needs one or two dimensions, got {d}: "
            "take Quadratic or Linear, or average over posterior_sample"
        )
    count = POINTS[d]
    line = (torch.arange(count, dtype=x.dtype, device=x.device) + 0.5) / count
    line = REACH * (2 * line - 1)
    nodes = torch.cartesian_prod(*[line] * d).reshape(-1, d)
    return nodes, (-nodes.square().sum(-1) / 2).log_softmax(0)


def _graph(reward: Reward):
    """No graph at all for a black box: a part of it would give a wrong gradient in silence."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and reward.differentiable)


def _gradient_at_end(tilt: Tilt, x: Tensor) -> Tensor:
    """grad strength r(x), (N, D), with a graph where x has one."""
    if not tilt.reward.differentiable:
        raise ValueError(
            "at time 1 the value's gradient is the reward's, "
            f"and reward {tilt.reward.name!r} has none: ask for it before the end"
        )
    with torch.enable_grad():
        points = x if x.requires_grad else x.detach().requires_grad_()
        log_weights = tilt.score(points)[1].sum()
        (gradient,) = torch.autograd.grad(log_weights, points, create_graph=x.requires_grad)
    return gradient
