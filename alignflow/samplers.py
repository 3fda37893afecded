r"""Samplers: how a model steps from noise to data, where it is not by its own jumps.

`policy.sample(n, steps, sampler=...)` takes any of them; without one a step is the flow map's jump.
Both ask for the denoiser D alone, and so also sample a model that has learned nothing else.

.. math::
    \text{ODE}\quad & \frac{dx}{d\sigma} = D - x, \qquad \sigma = -\log(1-t) \\
    \text{tokens}\quad & k_l \sim D_l^{1/\text{temperature}}, \qquad
        x_t = t\, \mathrm{onehot}(k) + (1-t)\, \epsilon
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignflow import checks, draws
from alignflow.flow_map import FlowMap
from alignflow.simplex import draw_tokens, one_hot_states
from alignflow.transitions import bridge

__all__ = ["DenoiserODE", "TokenDraws"]

# the end of the path is at infinite sigma: there a step is as long as one over this part of the way
LAST = 1e-2


@dataclass(frozen=True)
class DenoiserODE:
    """Steps of the probability-flow ODE, of second order in -log(1-t), by two denoisers each.

    A step is exact where the denoiser is constant, so that states on the simplex end on it.

    Source: exponential midpoint method; DPM-Solver-2 (Lu et al. 2022, 2206.00927).
    """

    def step(
        self,
        model: FlowMap,
        x: Tensor,
        s: float,
        t: float,
        condition: Any = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The state at time t, (N, *E), of x (N, *E) at s < t."""
        middle = 1 - math.sqrt((1 - s) * max(1 - t, LAST * (1 - s)))
        ahead = x.lerp(model.denoiser(x, s, condition), (middle - s) / (1 - s))
        return x.lerp(model.denoiser(ahead, middle, condition), (t - s) / (1 - s))


@dataclass(frozen=True)
class TokenDraws:
    """A token of each position drawn from the denoiser, and noised to the next time; one denoiser.

    Positions are drawn independently: exact for one position, for independent ones, and, with
    memoryless noise, in the limit of many steps. The last step is the tokens.

    Args:
        temperature: Of the draws, above 0; below 1 favors likely tokens.
        noise: "fresh", independent of the state, or "memoryless": conditioned on state and tokens,
            as in DDPM.
    """

    temperature: float = 1.0
    noise: str = "fresh"

    def __post_init__(self):
        checks.positive("temperature", self.temperature)
        checks.choice("noise", self.noise, ("fresh", "memoryless"))

    def step(
        self,
        model: FlowMap,
        x: Tensor,
        s: float,
        t: float,
        condition: Any = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The state at time t, (N, L, V), of x (N, L, V) at s < t."""
        soft = model.denoiser(x, s, condition)
        tokens = draw_tokens(soft, self.temperature, generator)
        endpoint = one_hot_states(tokens, soft.shape[-1], x.dtype)
        noise = draws.normal(x.shape, generator, x.dtype, x.device)
        if self.noise == "fresh":
            return noise.lerp(endpoint, t)
        start, end = (x.new_full((len(x),), time) for time in (s, t))
        return bridge(x, start, endpoint, end, noise)
