r"""A bound of the likelihood of tokens under a flow on the simplex, in nats a string.

.. math::
    -\log p(k) \le \int_0^{g_1} g\; E\, \lVert e_k - D_t(x_t) \rVert^2\, dg
        + E \Big[ -\sum_l \log D_{t_1}(x_{t_1})_{l, k_l} \Big], \qquad g = \frac{t}{1-t}

The states x_t = t e_k + (1-t) noise have the signal-to-noise ratio g^2, and g dg is half of its
differential. The bound is that of drawing x_t by the reverse SDE with the denoiser D up to a time
t_1, and then each token by itself. Noise at time 0 is exact, so it adds nothing. With the exact
denoiser the integral is the information that x_t has of the string (I-MMSE), and what the bound
exceeds -log p by, on average, is what tokens still say of each other at t_1.

A cross-entropy in place of the square is no equal of it: their ratio is not constant.

Sources: Kingma et al. 2021, "Variational diffusion models" (2107.00630), eq. (17); Guo, Shamai and
Verdu 2005, "Mutual information and minimum mean-square error in Gaussian channels".
"""

from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.distillation.decoding_times import decoded_fraction
from alignflow.draws import normal, uniform
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import expand_time
from alignflow.simplex import one_hot_states

__all__ = ["likelihood_bound"]

CELLS = 1000


@torch.no_grad()
def likelihood_bound(
    model: FlowMap,
    tokens: Tensor,
    condition: Any = None,
    *,
    draws: int = 1,
    t_max: float = 0.9,
    generator: torch.Generator | int | None = None,
) -> Tensor:
    """Unbiased estimates of the bound of -log p of each string, (N,), in nats.

    Their `metrics.mean` is the bound of a data set, with a standard error that is a little too
    large, for times are stratified.

    Args:
        model: Gives the denoiser of states (N, L, V): probabilities.
        tokens: (N, L), with their padding, which counts as any token.
        condition: Of the model.
        draws: Times and noises for each string.
        t_max: t_1. Later is tighter where the model is exact; at 0.9 tokens of a vocabulary of
            thousands can be told one by one.
        generator: Source of times and noises, or its seed.

    Raises:
        ValueError: If the model's states are of another shape, or tokens none of its vocabulary.
    """
    check_flow_map("model", model)
    draws, t_max = (
        checks.count("draws", draws),
        checks.fraction("t_max", t_max, zero=False, one=False),
    )
    generator = checks.as_generator(generator)
    if len(model.event_shape) != 2:
        raise ValueError(f"a model of states (N, L, V) is needed, got {tuple(model.event_shape)}")
    anything = model.noise(1, generator)
    data = one_hot_states(tokens, anything.shape[-1], anything.dtype).to(anything.device)
    model.check_state(data)
    condition = model.condition_rows(condition, len(data))
    grid, density = _density(data.shape[-1], t_max)
    total = torch.zeros(len(data), dtype=torch.float64, device=data.device)
    for _ in range(draws):
        ratio, weight = (each.to(total) for each in _ratios(len(data), grid, density, generator))
        noise = normal(data.shape, generator, data.dtype, data.device)

        def denoised(t: Tensor, noise: Tensor = noise) -> Tensor:
            x = torch.lerp(noise, data, expand_time(t.to(data), data))
            return model.denoiser(x, t.to(data), condition).double()

        square = (data - denoised(ratio / (1 + ratio))).square().flatten(1).sum(1)
        chosen = (data * denoised(torch.full_like(ratio, t_max))).sum(-1)
        # what a lower precision rounds to 0
        nats = -chosen.clamp(min=torch.finfo(torch.float32).tiny).log().sum(1)
        total += weight * square + nats
    return total / draws


def _density(size: int, t_max: float) -> tuple[Tensor, Tensor]:
    """Ends of cells of g, and a density in each, from the error of decoding a token alone."""
    grid = torch.linspace(0, t_max / (1 - t_max), CELLS + 1, dtype=torch.float64)
    middle = (grid[1:] + grid[:-1]) / 2
    undecoded = 1 - decoded_fraction(middle / (1 + middle), size)
    # context tells tokens earlier; the root has the heavier tail, so that weights stay bounded
    density = middle * (undecoded.square() + 0.05 * (undecoded + 1e-4).sqrt())
    return grid, density / (density * grid.diff()).sum()


def _ratios(
    n: int, grid: Tensor, density: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Stratified g, (n,), in a mixed order, and their weights g / density."""
    order = uniform((n,), generator, device=grid.device).argsort()
    at = (order + uniform((n,), generator, grid.dtype, grid.device)) / n
    ends = (density * grid.diff()).cumsum(0)
    cell = torch.searchsorted(ends, at, right=True).clamp(max=len(density) - 1)
    ratio = grid[cell + 1] - (ends[cell] - at).clamp(min=0) / density[cell]
    return ratio, ratio / density[cell]
