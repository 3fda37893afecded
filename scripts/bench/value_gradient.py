"""The value's gradient from draws of the endpoint: how fast it comes near the closed form.

    python scripts/bench/value_gradient.py [--states 16]

Weighted Diamond renoises the state and weighs what a flow map makes of it; GLASS and the exact
posterior stand beside it. Errors are those of grad V over states drawn from the path at one time,
root mean square, as a fraction of the root mean square of grad V itself.
"""

import argparse
import itertools
import math
from collections.abc import Callable

import torch
from page import table, write_page
from rich.progress import track
from tensordict import TensorDict
from torch import Tensor

from alignflow.posteriors import (
    ExactPosterior,
    GLASSPosterior,
    Posterior,
    RenoisedPosterior,
    StochasticMapPosterior,
)
from alignflow.targets import GaussianMixture, mixture, mixture_quadratic_reward
from alignflow.tilt import Tilt
from alignflow.values import Estimator, Gradient, GradientFree

TIMES = (0.3, 0.6, 0.9)
DRAWS = (16, 64, 256, 1024)
STRENGTH = 2.0
SNR_RATIO = 5.0

Make = Callable[[GaussianMixture, int], Posterior]


def by_trapezoid(model: GaussianMixture, draws: int) -> Posterior:
    return RenoisedPosterior(model, draws, SNR_RATIO)


def by_density(model: GaussianMixture, draws: int) -> Posterior:
    return RenoisedPosterior(model, draws, SNR_RATIO, model.log_density)


ESTIMATORS: dict[str, tuple[type[Estimator], Make]] = {
    "renoised, gradient": (Gradient, by_trapezoid),
    "renoised, gradient, known density": (Gradient, by_density),
    "renoised, gradient-free": (GradientFree, by_trapezoid),
    "glass, gradient-free": (GradientFree, GLASSPosterior),
    "stochastic map, gradient": (Gradient, StochasticMapPosterior),
    "exact, gradient-free": (GradientFree, lambda m, k: ExactPosterior(m, m, k)),
}


def estimate(
    make: Make,
    kind: type[Estimator],
    target: GaussianMixture,
    state: Tensor,
    time: float,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """grad V_t at states (N, D) by one estimator, (N, D)."""
    posterior = make(target, draws)
    value = kind(target, Tilt(mixture_quadratic_reward(target), STRENGTH))
    batch = TensorDict(
        {
            "state": state.clone().requires_grad_(kind is Gradient),
            "time": torch.full((len(state),), time, dtype=state.dtype),
        },
        batch_size=len(state),
    )
    with torch.set_grad_enabled(kind is Gradient):
        posterior.draw(batch, generator)
        found = value(posterior(batch))
    if kind is Gradient:
        return found["value_gradient"].detach()
    return found["correction"] * time / (1 - time)


def row(name: str, target: GaussianMixture, state: Tensor, time: float) -> list[str]:
    """Errors of an estimator by draws, and their slope."""
    kind, make = ESTIMATORS[name]
    exact = target.value_gradient(state, time, mixture_quadratic_reward(target), STRENGTH)
    generator, errors = torch.Generator().manual_seed(1), []
    for draws in DRAWS:
        found = [
            estimate(make, kind, target, one, time, draws, generator)
            for one in state.split(max(1, 4096 // draws))
        ]
        error = (torch.cat(found) - exact).square().mean().sqrt()
        errors.append((error / exact.square().mean().sqrt()).item())
    fall = math.log(errors[-1] / errors[0]) / math.log(DRAWS[-1] / DRAWS[0])
    return [name, *(f"{error:.3f}" for error in errors), f"{fall:.2f}"]


def section(name: str, target: GaussianMixture, states: int, time: float) -> str:
    """Of a page: every estimator on one target at one time."""
    generator = torch.Generator().manual_seed(0)
    x1 = target.sample(states, generator=generator)
    state = torch.lerp(torch.randn(x1.shape, generator=generator).to(x1), x1, time)
    title = f"{name}, time {time:g}"
    rows = [row(estimator, target, state, time) for estimator in track(ESTIMATORS, title)]
    return f"## {title}\n\n{table(['', *DRAWS, 'slope'], rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=16)
    states = parser.parse_args().states
    torch.set_num_threads(1)
    cases = {
        f"{dimension}-D, means {separation} apart": mixture(dimension, separation=separation)
        for separation in (1, 4)
        for dimension in (1, 2, 8)
    }
    sections = [
        section(name, target.double(), states, time)
        for (name, target), time in itertools.product(cases.items(), TIMES)
    ]
    about = (
        "Where modes run into each other (means 1 apart) every estimator converges as a mean does. "
        "Where they lie apart, what changes the weight of a mode is the gradient of the flow map "
        "across the thin seam between their basins: rare and huge, so that gradients through draws "
        "converge far slower than 1 / sqrt(draws), while gradient-free estimators, which compare "
        "draws, do not notice. GLASS takes its four inner steps, whose error of about 0.1 more "
        "draws do not lower.\n\n"
        f"Mixtures of four Gaussians, quadratic reward, strength {STRENGTH:g}, {states} states. "
        f"Columns are draws; the slope is that of log error in log draws, -1/2 for a mean. "
        f"Renoised by a signal-to-noise ratio of {SNR_RATIO:g}; the log-ratio of densities by the "
        "trapezoid of scores, as a network needs, or known."
    )
    write_page("value_gradient", "The value's gradient, by draws", about, *sections)


if __name__ == "__main__":
    main()
