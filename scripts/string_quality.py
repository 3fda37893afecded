"""How good a shipped model of strings is, by the list that it has learned: for the model's card."""

import sys
from pathlib import Path

import torch

from alignflow.data import Strings
from alignflow.metrics import canonical, distinct, listed, rates
from alignflow.policies import FlowMapPolicy
from alignflow.targets import Sequences

sys.path.append(str(Path(__file__).parent / "bench"))
from string_properties import PROPERTIES

BATCH = 500
STEPS = (1, 2, 4, 8)
TIMES = (0.3, 0.5, 0.7)  # of the denoiser that is compared


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


def divergence(policy: FlowMapPolicy, strings: Strings, time: float, n: int = 1000) -> float:
    """Mean over states at a time of KL(exact denoiser, denoiser), in nats a string."""
    generator = torch.Generator().manual_seed(3)
    x1 = strings.sample(n, generator)["data"]
    x = torch.lerp(torch.randn(x1.shape, generator=generator), x1, time)
    t = torch.full((n,), time)
    exact, found = Sequences(strings).denoiser(x, t), policy.output(x, t, t).log_softmax(-1)
    return (exact.xlogy(exact) - exact * found).sum((1, 2)).mean().item()
