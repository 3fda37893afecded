r"""Memoryless paths whose log-ratio to the base's is known.

.. math:: x_{k+1} = m_k(b_\theta) + \sigma_k \epsilon, \qquad
    \ell = \sum_k \log \frac{p_\theta(x_{k+1} | x_k)}{p(x_{k+1} | x_k)}
    = \sum_k \frac{\langle \rho_k, \delta_k \rangle - \lvert \delta_k \rvert^2 / 2}{\sigma_k^2}

with rho the offset of :math:`x_{k+1}` from the base's mean, and delta the tuned model's mean less
the base's, which is :math:`f_k (b_\theta - b)`. Both models' steps have one variance. Steps are
those of `alignflow.transitions.memoryless`, with the standard deviation of x_1 about the denoiser
that the base has at each time; the last one keeps it, so that it has a density too.

The paths start at noise, of which their ends are independent. So the tilt of paths by
:math:`e^{\lambda r(x_1)}` leaves the noise as it is, and its ends are the tilt of the base's ends.

Source: Domingo-Enrich et al. 2024 (2409.08861), section 4, for the memoryless process.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignflow import checks
from alignflow.draws import normal
from alignflow.finetuning.rollouts.memoryless import jittered_times
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.modes import evaluating
from alignflow.precision import accumulation_dtype, full_precision
from alignflow.transitions.memoryless import memoryless_std, step_coefficients, step_mean

from .denoiser_error import DenoiserError, NormalError

__all__ = ["BasePaths", "MemorylessPaths", "PathStep", "step_log_ratio", "velocity_of", "as_paths"]


class PathStep(NamedTuple):
    """A step of N paths.

    Args:
        state: Where it starts, (N, *E).
        time: When, (N,).
        base_velocity: The base's there, (N, *E).
        end_state: Where it ends, (N, *E).
        end: When, (N,).
        log_ratio: Of the model that drew it to the base, (N,).
    """

    state: Tensor
    time: Tensor
    base_velocity: Tensor
    end_state: Tensor
    end: Tensor
    log_ratio: Tensor


class MemorylessPaths:
    """Paths from noise to time 1, in Gaussian steps of the first two moments of the base's.

    Inner times are even and shifted together by up to half a gap, at random for each path, so that
    training meets all times but half a gap at either end.

    Args:
        steps: Of a path.
        data_std: d, for steps that are exact for normal data of this standard deviation; None
            measures the error of the base's denoiser at each time.
    """

    def __init__(self, steps: int = 32, data_std: float | None = None):
        self.steps = checks.count("steps", steps)
        self.data_std = None if data_std is None else checks.positive("data_std", data_std)

    def of(self, base: FlowMap, condition: Any = None) -> "BasePaths":
        """These paths for a base.

        Args:
            base: What their log-ratios are to.
            condition: Conditions, rows (C, ...), under which its denoiser is measured.
        """
        if self.data_std is None:
            return BasePaths(base, self.steps, DenoiserError(base, condition))
        return BasePaths(base, self.steps, NormalError(self.data_std))


class BasePaths:
    """Memoryless paths and their log-ratios to those of a base.

    Args:
        base: The base.
        steps: Of a path.
        error: Of its denoiser: from times (N,) below 1 to the standard deviation of x_1 about it
            over 1 - t, (N,).
    """

    def __init__(self, base: FlowMap, steps: int, error: Callable[[Tensor], Tensor]):
        self.base, self.steps, self.error = base, steps, error

    @torch.no_grad()
    def draw(
        self,
        model: FlowMap,
        n: int,
        condition: Any = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[PathStep]:
        """The steps of n paths of a model, from the first to the last."""
        state = self.base.noise(n, generator)
        times = jittered_times(state.new_zeros(n), self.steps, generator)
        velocity, of_base = velocity_of(model), velocity_of(self.base)
        for time, end in pairwise(times):
            at = velocity(state, time, condition), of_base(state, time, condition)
            std, rest, _ = self.coefficients(time, end)
            noise = normal(state.shape, generator, state.dtype, state.device)
            moved = step_mean(state, at[0], time, end, rest) + expand_time(std, state) * noise
            log_ratio = self.log_ratio(state, time, moved, end, *at)
            yield PathStep(state, time, at[1], moved, end, log_ratio)
            state = moved

    def log_ratio(
        self,
        state: Tensor,
        time: Tensor,
        end_state: Tensor,
        end: Tensor,
        velocity: Tensor,
        base_velocity: Tensor,
    ) -> Tensor:
        """Log-density of a step under a model less that under the base, (N,).

        Args:
            state: Where it starts, (N, *E).
            time: When, (N,).
            end_state: Where it ends, (N, *E).
            end: When, (N,).
            velocity: The model's at the start, (N, *E), perhaps with a graph.
            base_velocity: The base's, (N, *E).
        """
        std, rest, factor = self.coefficients(time, end)
        offset = end_state - step_mean(state, base_velocity, time, end, rest)
        shift = expand_time(factor, state) * (velocity - base_velocity)
        return step_log_ratio(offset, shift, std)

    def coefficients(self, time: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standard deviation of a step, the weight of eps_s and the factor of the velocity in its
        mean, each (N,), as of `step_coefficients`; the last step is to a sample of x_1."""
        noise_std, rest, factor = step_coefficients(time, end, memoryless_std(time, end), 0.0)
        return torch.hypot(noise_std, factor * self.error(time)), rest, factor


def step_log_ratio(offset: Tensor, shift: Tensor, std: Tensor) -> Tensor:
    """log N(offset; shift, std^2) - log N(offset; 0, std^2), (N,), of (N, *E) and std (N,)."""
    dtype = accumulation_dtype(offset)
    terms = ((offset - shift / 2) * shift).to(dtype).flatten(1).sum(1)
    return terms / std.to(dtype).square()


def velocity_of(model: Any) -> Callable[..., Tensor]:
    """The velocity in evaluation mode and full precision, of which log-ratios are made.

    A log-ratio is a difference of close numbers over a small variance: with dropout, or in bf16,
    that of one step would differ from call to call.
    """

    def velocity(x: Tensor, t: Tensor, condition: Any) -> Tensor:
        with evaluating(model), full_precision(x.device):
            return model.velocity(x, t, condition)

    return velocity


def as_paths(name: str, value: Any) -> MemorylessPaths:
    """Settings of paths, as they are."""
    return checks.instance(name, value, MemorylessPaths, "a MemorylessPaths(...)")
