r"""Interpolants between noise and data, and the conversions of one field into another.

.. math:: I_t = \sigma_t x_0 + \alpha_t x_1, \qquad \text{linear: } I_t = (1-t)\,x_0 + t\,x_1

Noise sits at time 0, data at time 1. All conversions hold for the linear interpolant and are pure
functions of tensors: states are (N, *E), times are (N,) in [0, 1] and dimensionless.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from alignflow import checks

__all__ = [
    "Interpolant",
    "Linear",
    "Trigonometric",
    "as_time",
    "average_velocity_from_mean_denoiser",
    "check_grid",
    "comes_before",
    "denoiser_from_velocity",
    "expand_time",
    "flow_map_from_average_velocity",
    "flow_map_from_mean_denoiser",
    "mean_denoiser_from_average_velocity",
    "refuse_end",
    "score_from_velocity",
    "uniform_grid",
    "velocity_from_denoiser",
]


class Interpolant(Protocol):
    """A path from noise to data: the state on it and its time derivative."""

    def state(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """I_t, (N, *E), from noise and data (N, *E) and times (N,)."""
        ...

    def velocity(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """dI_t/dt, (N, *E)."""
        ...


class Linear:
    """I_t = (1-t) x0 + t x1: the interpolant of every formula in this library."""

    def state(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        t = expand_time(t, x1)
        return (1 - t) * x0 + t * x1

    def velocity(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return x1 - x0


class Trigonometric:
    """I_t = cos(pi t/2) x0 + sin(pi t/2) x1: keeps the variance of whitened data.

    Learning a flow map along it works like along the linear one; steering formulas (posterior,
    tilt, score) are the linear one's and do not apply.
    """

    def state(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        angle = math.pi / 2 * expand_time(t, x1)
        return angle.cos() * x0 + angle.sin() * x1

    def velocity(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        angle = math.pi / 2 * expand_time(t, x1)
        return math.pi / 2 * (angle.cos() * x1 - angle.sin() * x0)


def as_time(t: float | Tensor, x: Tensor) -> Tensor:
    """A time as (N,) of the state's dtype and device, from a number, a scalar tensor or (N,).

    Raises:
        ValueError: If a tensor's shape is neither () nor (N,), or a number lies outside [0, 1].
    """
    if not isinstance(t, Tensor):
        t = checks.finite("a time", t)
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"a time must lie in [0, 1], got {t}")
        return x.new_full((x.shape[0],), t)
    if t.shape not in ((), (x.shape[0],)):
        raise ValueError(
            f"a time must be a number or of shape ({x.shape[0]},), got {tuple(t.shape)}"
        )
    t = t.to(dtype=x.dtype, device=x.device)
    return t if t.ndim else t.expand(x.shape[0])


def comes_before(t: float | Tensor, s: float | Tensor) -> bool:
    """Whether some time t, a number or (N,), comes before its s.

    Tensors on a GPU are not looked at, for that would wait for them: there it is False.
    """
    earlier = t < s
    return _any(earlier) if isinstance(earlier, Tensor) else earlier


def expand_time(t: Tensor, x: Tensor) -> Tensor:
    """Times (N,) shaped to multiply states (N, *E)."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def uniform_grid(steps: int) -> Tensor:
    """Times 0 = t_0 < ... < t_steps = 1 with equal gaps, (steps + 1,)."""
    return torch.linspace(0.0, 1.0, checks.count("steps", steps) + 1, dtype=torch.float64)


def check_grid(grid: Tensor | Sequence[float], whole: bool = False) -> Tensor:
    """The grid itself if it is one: (steps + 1,), increasing, inside [0, 1].

    Args:
        grid: Times.
        whole: Whether it must run from 0 to 1.

    Raises:
        ValueError: Naming what is wrong with it.
    """
    grid = checks.as_tensor("a grid", grid)
    if grid.ndim != 1 or grid.numel() < 2:
        raise ValueError(
            f"a grid needs at least two times in one row, got shape {tuple(grid.shape)}"
        )
    if not torch.isfinite(grid).all():
        raise ValueError(f"a grid must be finite, got {grid.tolist()}")
    if not (grid[1:] > grid[:-1]).all():
        raise ValueError(f"a grid must increase, got {grid.tolist()}")
    if grid[0] < 0 or grid[-1] > 1:
        raise ValueError(f"a grid must lie in [0, 1], got {grid.tolist()}")
    if whole and not (grid[0] == 0 and grid[-1] == 1):
        raise ValueError(
            f"a grid runs from 0 (noise) to 1 (data), got one from {grid[0]:g} to {grid[-1]:g}: "
            "jumps over a part of the way are policy.flow_map(x, s, t)"
        )
    return grid


def denoiser_from_velocity(x: Tensor, t: Tensor, velocity: Tensor) -> Tensor:
    """D_t = E[x1 | x_t] = x + (1-t) b."""
    return x + (1 - expand_time(t, x)) * velocity


def velocity_from_denoiser(x: Tensor, t: Tensor, denoiser: Tensor) -> Tensor:
    """b = (D - x) / (1-t), for t < 1.

    Raises:
        ValueError: If some t is 1: there the quotient is 0/0 and a point value has no limit.
    """
    refuse_end(t, "the velocity from a denoiser")
    return (denoiser - x) / (1 - expand_time(t, x))


def score_from_velocity(x: Tensor, t: Tensor, velocity: Tensor) -> Tensor:
    """Score of rho_t, (t b - x) / (1-t), for t < 1.

    Raises:
        ValueError: If some t is 1 (0/0).
    """
    refuse_end(t, "the score")
    t = expand_time(t, x)
    return (t * velocity - x) / (1 - t)


def flow_map_from_average_velocity(x: Tensor, s: Tensor, t: Tensor, average: Tensor) -> Tensor:
    """X_{s,t}(x) = x + (t-s) v_{s,t}."""
    return x + expand_time(t - s, x) * average


def mean_denoiser_from_average_velocity(x: Tensor, s: Tensor, average: Tensor) -> Tensor:
    """delta_{s,t} = x + (1-s) v_{s,t}."""
    return x + (1 - expand_time(s, x)) * average


def average_velocity_from_mean_denoiser(x: Tensor, s: Tensor, mean_denoiser: Tensor) -> Tensor:
    """v_{s,t} = (delta_{s,t} - x) / (1-s), for s < 1.

    Raises:
        ValueError: If some s is 1 (0/0).
    """
    refuse_end(s, "the average velocity from a mean denoiser")
    return (mean_denoiser - x) / (1 - expand_time(s, x))


def flow_map_from_mean_denoiser(x: Tensor, s: Tensor, t: Tensor, mean_denoiser: Tensor) -> Tensor:
    """X_{s,t}(x) = (1-t)/(1-s) x + (t-s)/(1-s) delta_{s,t}, for s < 1.

    Raises:
        ValueError: If some s is 1 (0/0).
    """
    refuse_end(s, "the flow map from a mean denoiser")
    s, t = expand_time(s, x), expand_time(t, x)
    return (1 - t) / (1 - s) * x + (t - s) / (1 - s) * mean_denoiser


def refuse_end(t: Tensor, what: str) -> None:
    """Refuse times (N,) that are 1, on the CPU and out of compiled graphs."""
    if _any(t >= 1):
        raise ValueError(f"{what} is 0/0 at time 1: ask for it before the end of the path")


def _any(mask: Tensor) -> bool:
    """Whether any of it is true, where asking costs no waiting and breaks no compiled graph."""
    known = mask.device.type == "cpu" and not torch.compiler.is_compiling()
    return known and bool(mask.any())
