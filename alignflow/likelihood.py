r"""The density of a flow, by the divergence of its velocity along the ODE.

.. math:: \log \rho_1(x_1) = \log \mathcal{N}(x_0; 0, I) - \int_0^1 \nabla \cdot b_t(x_t)\, dt

Sources: Chen et al. 2018 (1806.07366) for the change of density; FFJORD (1810.01367) for the
divergence by random probes.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.draws import integers
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.ode import integrate

__all__ = [
    "divergence",
    "log_density",
    "noise_log_density",
    "push",
    "rademacher",
    "sample_with_density",
]

Velocity = Callable[[Tensor, Tensor], Tensor]


def log_density(
    model: FlowMap,
    x: Tensor,
    condition: Any = None,
    *,
    probes: int = 0,
    tolerance: float | None = None,
    steps: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log rho_1(x) of a model's ODE, (N,), in nats, with a gradient in the states.

    Args:
        model: Gives the velocity.
        x: States at time 1, (N, *E).
        condition: Of the model.
        probes: Random probes of the divergence, which is then unbiased; 0 takes it exactly, at the
            price of a vjp for each number of a state.
        tolerance: Of the ODE, as `integrate` takes it.
        steps: Equal midpoint steps of it in place of a tolerance.
        generator: Source of the probes.

    Raises:
        FloatingPointError: If the ODE cannot be followed.
    """
    check_flow_map("model", model)
    model.check_state(x)
    condition = model.condition_rows(condition, len(x))
    drawn = rademacher(probes, x, generator)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return model.velocity(x, t, condition)

    noise, change = push(velocity, x, 1.0, 0.0, drawn, tolerance, steps)
    return noise_log_density(noise) + change


@torch.no_grad()
def sample_with_density(
    model: FlowMap,
    n: int,
    generator: torch.Generator | None = None,
    condition: Any = None,
    *,
    tolerance: float | None = None,
) -> tuple[Tensor, Tensor]:
    """n samples of a model's ODE, (n, *E), and their exact log-densities in nats, (n,).

    Weights rho / rho_1 of an unnormalized density rho then make averages over the samples unbiased
    up to the normalizer.
    """
    check_flow_map("model", model)
    noise = model.noise(n, generator)
    condition = model.condition_rows(condition, len(noise))
    states, change = push(
        lambda x, t: model.velocity(x, t, condition), noise, 0.0, 1.0, tolerance=tolerance
    )
    return states, noise_log_density(noise) - change


def push(
    velocity: Velocity,
    x: Tensor,
    s: float,
    t: float,
    probes: Tensor | None = None,
    tolerance: float | None = None,
    steps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """States (N, *E) carried from s to t, and the integral of the divergence on the way, (N,)."""

    def field(carried: tuple[Tensor, ...], time: Tensor) -> tuple[Tensor, ...]:
        return divergence(velocity, carried[0], time, probes)

    state, change = integrate(field, (x, x.new_zeros(len(x))), s, t, tolerance, steps)
    return state, change


def divergence(
    velocity: Velocity, x: Tensor, t: Tensor, probes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The velocity (N, *E), and its divergence (N,), with a graph where gradients are enabled.

    Args:
        velocity: `velocity(x, t)`.
        x: (N, *E).
        t: (N,).
        probes: (K, N, *E), of mean 0 and covariance I; None takes the exact trace.
    """
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        moved = velocity(x, t)
        total = x.new_zeros(len(x))
        for probe in _basis(x) if probes is None else probes:
            (pulled,) = torch.autograd.grad(
                moved, x, probe, retain_graph=True, create_graph=wanted, materialize_grads=True
            )
            total = total + (pulled * probe).flatten(1).sum(1)
    total = total if probes is None else total / len(probes)
    return (moved, total) if wanted else (moved.detach(), total.detach())


def rademacher(count: int, x: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
    """Probes of random signs for states (N, *E), (count, N, *E); none if the count is 0."""
    count = checks.count("probes", count, least=0)
    if count == 0:
        return None
    generator = checks.as_generator(generator)
    return integers(2, (count, *x.shape), generator, x.device).to(x) * 2 - 1


def noise_log_density(x: Tensor) -> Tensor:
    """Log-density (N,) of noise (N, *E), in nats."""
    flat = x.flatten(1)
    return -(flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi)) / 2


def _basis(x: Tensor) -> Any:
    """Unit vectors of an event, each for all rows."""
    size = x[0].numel()
    for i in range(size):
        unit = x.new_zeros(size)
        unit[i] = 1
        yield unit.reshape(x.shape[1:]).expand_as(x)
