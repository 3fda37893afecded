r"""Memoryless paths whose log-ratio to the base's is known.

.. math:: x_{k+1} = m_k(b_\theta) + \sigma_k \epsilon, \qquad
    \ell = \sum_k \log \frac{p_\theta(x_{k+1} | x_k)}{p(x_{k+1} | x_k)}
    = \sum_k \frac{\langle \rho_k, \delta_k \rangle - \lvert \delta_k \rvert^2 / 2}{\sigma_k^2}

with rho the offset of :math:`x_{k+1}` from the base's mean, and delta the tuned model's mean less
the base's, which is :math:`f_k (b_\theta - b)`. Both models' steps have one variance. Steps are
those of `alignflow.transitions.memoryless`, but the last one keeps its noise, so that it has a
density too: of normal data of standard deviation d it is that of x_1 about the denoiser.

The paths start at noise, of which their ends are independent. So the tilt of paths by
:math:`e^{\lambda r(x_1)}` leaves the noise as it is, and its ends are the tilt of the base's ends.

Source: Domingo-Enrich et al. 2024 (2409.08861), section 4, for the memoryless process.
"""

from collections.abc import Callable, Iterator
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

__all__ = ["MemorylessPaths", "PathStep", "step_log_ratio", "velocity_of"]


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
    """Paths from noise to time 1, in Gaussian steps that are exact for normal data of std d.

    Inner times are even and shifted together by up to half a gap, at random for each path, so that
    training meets all times but half a gap at either end.

    Args:
        steps: Of a path.
        data_std: d; None is the base's, `data_std`.
    """

    def __init__(self, steps: int = 16, data_std: float | None = None):
        self.steps = checks.count("steps", steps)
        self.data_std = None if data_std is None else checks.positive("data_std", data_std)

    @torch.no_grad()
    def draw(
        self,
        model: FlowMap,
        base: FlowMap,
        n: int,
        condition: Any = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[PathStep]:
        """The steps of n paths of a model, from the first to the last."""
        state = base.noise(n, generator)
        times = jittered_times(state.new_zeros(n), self.steps, generator)
        velocity, of_base = velocity_of(model), velocity_of(base)
        for time, end in zip(times, times[1:], strict=False):
            at = velocity(state, time, condition), of_base(state, time, condition)
            std, rest, _ = self.coefficients(time, end, base)
            noise = normal(state.shape, generator, state.dtype, state.device)
            moved = step_mean(state, at[0], time, end, rest) + expand_time(std, state) * noise
            log_ratio = self.log_ratio(state, time, moved, end, *at, base)
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
        base: FlowMap,
    ) -> Tensor:
        """Log-density of a step under a model less that under the base, (N,).

        Args:
            state: Where it starts, (N, *E).
            time: When, (N,).
            end_state: Where it ends, (N, *E).
            end: When, (N,).
            velocity: The model's at the start, (N, *E), perhaps with a graph.
            base_velocity: The base's, (N, *E).
            base: The base.
        """
        std, rest, factor = self.coefficients(time, end, base)
        offset = end_state - step_mean(state, base_velocity, time, end, rest)
        shift = expand_time(factor, state) * (velocity - base_velocity)
        return step_log_ratio(offset, shift, std)

    def coefficients(
        self, time: Tensor, end: Tensor, base: FlowMap
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `step_coefficients`, but the last step is to a sample, and not to the denoiser."""
        data_std = base.data_std if self.data_std is None else self.data_std
        std, rest, factor = step_coefficients(time, end, memoryless_std(time, end), data_std)
        last = data_std * factor / torch.hypot(data_std * time, 1 - time)
        return torch.where(end < 1, std, last), rest, factor


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
