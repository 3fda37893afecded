"""A trained stochastic flow map against the closed-form posterior: moments of its one-step draws.

    python scripts/bench/posterior_map.py [--steps 0 1500 6000]

The network is asked through an `InnerLook` or, as its baseline, is given the inner state as its
input with the context beside it. GLASS by the pretrained map and exact draws stand beside them.
Trained models are stored under outputs/posterior_map, so a run that was cut goes on where it was;
delete the folder after a change of what trains them.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from page import table, write_page
from tensordict import TensorDict
from torch import Tensor

import alignflow as af
from alignflow.interpolants import Linear
from alignflow.metrics import sliced_wasserstein
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.posteriors import GLASSPosterior
from alignflow.targets import GaussianMixture
from alignflow.targets.gaussians import Gaussians

FOLDER = Path("outputs/posterior_map")
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
STATES, DRAWS = 32, 2048
GLASS_STEPS, SOLVER = 8, "heun"
GLASS_FORWARDS = 2 * GLASS_STEPS - 1
PROJECTIONS = 16
BATCH = 512


class InnerStateAsInput(FlowMapPolicy):
    """The baseline: the network has the inner state as its input, and the context beside it."""

    def inner_velocity(self, x, s, t, context, condition=None):
        time, state = context
        return self.module(x, s, t, context=(time, state * (time > 0)[:, None]))

    def with_context(self, data_std=None):
        started = super().with_context(data_std)
        return InnerStateAsInput(started.module, self.event_shape, stochastic=True)


def ring() -> tuple[FlowMapPolicy, GaussianMixture]:
    return af.load("ring"), af.targets.ring()


def mixture() -> tuple[FlowMapPolicy, GaussianMixture]:
    """Its map is trained first."""
    target = af.targets.mixture(dimension=8)
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(8, scale=3.0), (8,))
    folder = FOLDER / "mixture"
    return af.pretrain(policy, target, steps=6000, folder=folder, generator=seeded(0)), target


TARGETS = {"ring": ring, "mixture of 8 dimensions": mixture}
KINDS = {"InnerLook": FlowMapPolicy, "inner state as input": InnerStateAsInput}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(base: FlowMapPolicy, target: Any, name: str, kind: str, steps: int) -> Any:
    policy = KINDS[kind](base.module, base.event_shape)
    if steps == 0:
        rows = target.sample(10_000, generator=seeded(0))
        return policy.with_context(rows.std().item()).eval()
    folder = FOLDER / f"{name}-{kind}-{steps}".replace(" ", "_")
    return af.learn_posterior(
        policy, target, steps=steps, batch_size=BATCH, generator=seeded(0), folder=folder
    )


def moments(exact_posterior: Gaussians) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and third central moment of each coordinate, (N, D)."""
    weight = exact_posterior.weights[..., None]
    mean = (weight * exact_posterior.means).sum(1)
    offset = exact_posterior.means - mean[:, None]
    within = exact_posterior.covariances.diagonal(dim1=-2, dim2=-1)
    second = (weight * (within + offset.square())).sum(1)
    return mean, second, (weight * (offset**3 + 3 * offset * within)).sum(1)


def errors(draws: Tensor, exact: Tensor, exact_posterior: Gaussians) -> list[float]:
    """Means over states: of the errors of three moments, and of the sliced W2 to exact draws.

    Lengths are in the posterior's standard deviation: the root of its mean variance.
    """
    draws = draws.double()
    mean, variance, third = moments(exact_posterior)
    unit = variance.mean(1, keepdim=True).sqrt()
    found = draws.mean(1)
    offset = draws - found[:, None]
    gaps = [
        (found - mean) / unit,
        (offset.square().mean(1) - variance) / unit**2,
        ((offset**3).mean(1) - third) / unit**3,
    ]
    distance = [
        sliced_wasserstein(one, other, PROJECTIONS, seeded(2)).value / length.item()
        for one, other, length in zip(draws, exact, unit, strict=True)
    ]
    return [gap.abs().mean().item() for gap in gaps] + [sum(distance) / len(distance)]


def states(target: GaussianMixture, time: float) -> Tensor:
    generator = seeded(1)
    x1 = target.sample(STATES, generator=generator)
    noise = torch.randn(x1.shape, generator=generator)
    return Linear().state(noise, x1, torch.full((STATES,), time))


def by_glass(base: FlowMapPolicy, state: Tensor, time: float) -> Tensor:
    batch = TensorDict({"state": state, "time": torch.full((STATES,), time)}, batch_size=STATES)
    posterior = GLASSPosterior(base, DRAWS, inner_steps=GLASS_STEPS, solver=SOLVER)
    posterior.draw(batch, seeded(3))
    return posterior(batch)["endpoint"]


@torch.no_grad()
def measured(base: FlowMapPolicy, target: GaussianMixture, models: dict) -> list[list[str]]:
    """Rows of the table, at each time."""
    exact_target, rows = copy.deepcopy(target).double(), []
    for time in TIMES:
        state = states(target, time)
        exact_posterior = exact_target.posterior(state.double(), time)
        exact = exact_posterior.sample(DRAWS, seeded(4))
        found = {"exact draws": exact_posterior.sample(DRAWS, seeded(5))}
        found[f"GLASS, {GLASS_FORWARDS} forwards"] = by_glass(base, state, time)
        noise = torch.randn(STATES, DRAWS, *base.event_shape, generator=seeded(3))
        for title, model in models.items():
            found[title] = model.posterior_flow(noise, state, time)
        for title, draws in found.items():
            shown = [f"{error:.3f}" for error in errors(draws, exact, exact_posterior)]
            rows.append([f"{time:g}", title, *shown])
    return rows


def section(name: str, steps: list[int]) -> str:
    base, target = TARGETS[name]()
    models = {}
    for kind in KINDS:
        for number in steps:
            title = f"{kind}, {number:,} steps" if number else f"{kind}, untrained"
            models[title] = trained(base, target, name, kind, number)
    head = ["t", "draws", "mean", "variance", "third moment", "sliced W2"]
    return f"## {name[0].upper()}{name[1:]}\n\n{table(head, measured(base, target, models))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 1500, 6000], help="of training")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = (
        f"Errors of {DRAWS:,} draws at each of {STATES} states of the path to data: of mean, "
        "variance and third central moment, a mean over coordinates and states, and the mean "
        "sliced W2 to other exact draws; lengths in the posterior's standard deviation. A draw of "
        f"a stochastic map is one forward. Trained by `learn_posterior` in batches of {BATCH}, "
        "with the pretrained map's GLASS as the teacher; untrained is what a map starts as."
    )
    sections = [section(name, options.steps) for name in TARGETS]
    write_page("posterior_map", "A stochastic flow map and the exact posterior", about, *sections)


if __name__ == "__main__":
    main()
