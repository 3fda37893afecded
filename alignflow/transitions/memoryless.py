r"""The memoryless step: a Gaussian step of the flow's SDE under the noise schedule of DDPM.

Given x_s and the endpoint x_1, the state at t > s on a memoryless path is

.. math::
    x_t = t\, x_1 + \sqrt{(1-t)^2 - \sigma^2}\; \epsilon_s + \sigma \epsilon, \qquad
    \epsilon_s = \frac{x_s - s\, x_1}{1-s}, \qquad
    \sigma = (1-t) \sqrt{1 - r^2}, \quad r = \frac{s(1-t)}{t(1-s)}

A step of a model holds :math:`x_1` at the denoiser :math:`D_s(x_s)`, for which :math:`\epsilon_s`
is :math:`x_s - s\, b_s(x_s)`. The std of x_1 about D is then missing; of normal data of std d it is
:math:`d (1-s) / \sqrt{d^2 s^2 + (1-s)^2}`, and with it such data keep their marginals at any step
length. In short steps it is :math:`dx = (2 b - x/t)\, dt + \sqrt{2 c_t}\, dW`, and nothing diverges
at time 0, where :math:`c_t = (1-t)/t` does.

Sources: Domingo-Enrich et al. 2024 (2409.08861), section 4; GLASS Flows (2509.25170).
"""

import torch
from torch import Tensor

from alignflow.interpolants import denoiser_from_velocity, expand_time

__all__ = ["memoryless_std", "memoryless_step", "noise_weight", "step_coefficients", "step_mean"]


def memoryless_step(
    x: Tensor, velocity: Tensor, s: Tensor, t: Tensor, data_std: float | None
) -> tuple[Tensor, Tensor]:
    """Mean (N, *E) and standard deviation (N,) of a step from s to t.

    The velocity moves the mean by a factor that `step_coefficients` gives.

    Args:
        x: State at time s, (N, *E).
        velocity: b_s(x), (N, *E).
        s: Start, (N,).
        t: End, (N,), after s. A step to time 1 has no noise: its mean is the denoiser.
        data_std: d, of the data; None holds x_1 at the denoiser.
    """
    std, rest, _ = step_coefficients(s, t, memoryless_std(s, t), data_std)
    return step_mean(x, velocity, s, t, rest), std


def memoryless_std(s: Tensor, t: Tensor) -> Tensor:
    """sigma, (N,): the standard deviation of x_t given x_s and x_1; 1-t from a start at time 0."""
    carried = (s / t * (1 - t)).square()
    return ((1 - s).square() - carried).clamp_min(0).sqrt() * (1 - t) / (1 - s)


def noise_weight(t: Tensor, noise_std: Tensor) -> Tensor:
    """sqrt((1-t)^2 - sigma^2), (N,): the weight of eps_s in x_t beside fresh noise."""
    return ((1 - t).square() - noise_std.square()).clamp_min(0).sqrt()


def step_coefficients(
    s: Tensor, t: Tensor, noise_std: Tensor, data_std: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The step from s to t with noise of a given std, `memoryless_std` or any below 1-t.

    Args:
        s: Start, (N,).
        t: End, (N,).
        noise_std: sigma, (N,).
        data_std: d, of the data; None holds x_1 at the denoiser.

    Returns:
        The standard deviation of the step, with that of x_1 about the denoiser; the weight of
        eps_s in its mean; and the factor by which the mean moves with the velocity, each (N,).
    """
    rest = noise_weight(t, noise_std)
    factor = t * (1 - s) - rest * s
    if not data_std:
        return noise_std, rest, factor
    # x_1 has the weight factor / (1-s)
    about = data_std * factor / torch.hypot(data_std * s, 1 - s)
    return torch.hypot(noise_std, torch.where(t < 1, about, 0.0)), rest, factor


def step_mean(x: Tensor, velocity: Tensor, s: Tensor, t: Tensor, rest: Tensor) -> Tensor:
    """t D + rest eps_s, (N, *E)."""
    denoiser = denoiser_from_velocity(x, s, velocity)
    noise = x - expand_time(s, x) * velocity
    return expand_time(t, x) * denoiser + expand_time(rest, x) * noise
