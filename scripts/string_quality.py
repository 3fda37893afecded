"""How good a shipped model of strings is, by the list it has learned or by held-out molecules."""

import sys
from pathlib import Path

import torch

from alignflow.data import Strings
from alignflow.flow_map import Sampler
from alignflow.likelihood_bound import likelihood_bound
from alignflow.metrics import canonical, distinct, listed, mean, odd_rings, rates
from alignflow.policies import FlowMapPolicy
from alignflow.samplers import DenoiserODE
from alignflow.targets import Sequences

sys.path.append(str(Path(__file__).parent / "bench"))
from string_properties import PAIRS, PROPERTIES, HeldOut

BATCH = 500
STEPS = (1, 2, 4, 8)
TIMES = (0.3, 0.5, 0.7)  # of the denoiser that is compared
ODE_STEPS = 32  # of the midpoint rule, two denoisers each


@torch.no_grad()
def list_quality(
    policy: FlowMapPolicy, name: str, strings: Strings, n: int = 4000
) -> dict[str, str]:
    """Fraction on the list and errors of ten known rates by map steps; divergence of the denoiser.

    Args:
        policy: The model.
        name: Of the list: names or fragments.
        strings: The list.
        n: Samples.
    """
    as_listed = canonical if name == "fragments" else list
    known, properties = as_listed(strings.strings), PROPERTIES[name]()
    exact = {label: strings.mean(call) for label, call in properties.items()}
    measured = {}
    for steps in STEPS:
        generator = torch.Generator().manual_seed(1)
        drawn = [policy.sample(BATCH, steps, generator=generator) for _ in range(n // BATCH)]
        texts = policy.decode(torch.cat(drawn))
        found = rates(texts, properties)
        gaps = {label: abs(found[label].value - exact[label]) for label in exact}
        worst = max(gaps, key=gaps.__getitem__)
        measured[f"{steps} steps, {n} samples"] = (
            f"{listed(as_listed(texts), known)} on the list, {distinct(texts)} distinct, rates of "
            f"{len(gaps)} properties off by {100 * sum(gaps.values()) / len(gaps):.1f} points on "
            f"average and at most {100 * gaps[worst]:.1f} ({worst})"
        )
    generator = torch.Generator().manual_seed(2)
    drawn = distinct(strings.select(strings.draw(n, generator)).strings)
    measured[f"{n} strings of the list"] = f"{drawn} distinct"
    measured["divergence from the exact denoiser"] = ", ".join(
        f"{divergence(policy, strings, time):.2f} nats at t = {time}" for time in TIMES
    )
    return measured


@torch.no_grad()
def molecule_quality(policy: FlowMapPolicy, held_out: Strings, n: int = 1000) -> dict[str, str]:
    """Bound of the likelihood; rings and distances of properties by map steps and by the ODE.

    Args:
        policy: The model.
        held_out: At least 2 PAIRS n molecules.
        n: Samples.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = held_out.tokens[:n].split(BATCH)
    bounds = [likelihood_bound(policy, part, draws=4, generator=generator) for part in tokens]
    others = HeldOut(held_out.select(slice(2 * PAIRS * n)).strings, n)
    measured = {
        f"bound of -log p of {n} held-out molecules": f"{mean(torch.cat(bounds))} nats a molecule",
        "held-out molecules": _molecules(held_out.select(slice(n, 2 * n)).strings, others),
    }
    methods: dict[str, tuple[int, Sampler | None]] = {
        f"{steps} steps": (steps, None) for steps in STEPS
    }
    methods[f"{ODE_STEPS} steps of the ODE"] = ODE_STEPS, DenoiserODE()
    for name, (steps, sampler) in methods.items():
        generator = torch.Generator().manual_seed(1)
        drawn = [
            policy.decode(policy.sample(BATCH, steps, sampler=sampler, generator=generator))
            for _ in range(n // BATCH)
        ]
        measured[f"{name}, {n} samples"] = _molecules([s for part in drawn for s in part], others)
    return measured


def _molecules(smiles: list[str], others: HeldOut) -> str:
    written = canonical(smiles)
    valid = [text for text in written if text]
    told = [
        f"{label} {value} ({distance:.1f})"
        for label, (value, distance) in others.distances(valid).items()
    ]
    return (
        f"{odd_rings(valid)} of the rings odd, {distinct(written)} distinct, "
        f"means and distances over the floor: {', '.join(told)}"
    )


def divergence(policy: FlowMapPolicy, strings: Strings, time: float, n: int = 1000) -> float:
    """Mean over states at a time of KL(exact denoiser, denoiser), in nats a string."""
    generator = torch.Generator().manual_seed(3)
    x1 = strings.sample(n, generator)["data"]
    x = torch.lerp(torch.randn(x1.shape, generator=generator), x1, time)
    t = torch.full((n,), time)
    exact, found = Sequences(strings).denoiser(x, t), policy.output(x, t, t).log_softmax(-1)
    return (exact.xlogy(exact) - exact * found).sum((1, 2)).mean().item()
