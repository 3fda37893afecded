"""A learned value as the critic of grpo on the ring: variance of the gradient, and what it buys."""

from pathlib import Path
from typing import Any

import torch
from page import table
from torch import Tensor

import alignflow as af
from alignflow.checkpoint import digest
from alignflow.finetuning import GRPO, Problem
from alignflow.metrics import sliced_wasserstein
from alignflow.policies import MLP
from alignflow.values import ValueFunction

__all__ = ["critic_section"]

STRENGTH, EPISODES, BATCHES = 1.0, 256, 20
STEPS, DRAWS, SEEDS = 150, 4096, 3
CREDITS: dict[str, dict[str, Any]] = {
    "return, std": {"credit": "return", "scale": "std"},
    "path, one": {"credit": "path", "scale": "one"},
}


class RingValue(ValueFunction):
    """The closed form of the ring, for the shipped model of it."""

    def forward(self, x: Tensor, t: Tensor, strength: Tensor, condition: Any = None) -> Tensor:
        return af.targets.ring().value(x, t, af.targets.ring_reward(), strength[0].item())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def variance(policy: Any, base: Any, **options: Any) -> float:
    """Of a batch's gradient at a policy, summed over its parameters."""
    tilt = af.Tilt(af.targets.ring_reward(), STRENGTH)
    problem = Problem(policy.requires_grad_(True), tilt, base, generator=seeded(0))
    loss, found = GRPO(episodes=EPISODES, **options).bind(problem), []
    for _ in range(BATCHES):
        losses = loss(loss.sample_batch(EPISODES))
        total = losses["loss_objective"] + losses["loss_kl"]
        gradients = torch.autograd.grad(total, list(loss.policy.parameters()))
        found.append(torch.cat([each.flatten() for each in gradients]))
    return torch.stack(found).var(0).sum().item()


def floors(policy: af.FlowMap) -> str:
    """Sliced W2 of four jumps to the tilt over that of exact draws."""
    tilted = af.targets.ring().tilted(af.targets.ring_reward(), STRENGTH)
    exact = [tilted.sample(DRAWS, generator=seeded(100 + k)) for k in range(2 * SEEDS)]
    floor = sum(_distance(*exact[2 * k : 2 * k + 2]) for k in range(SEEDS)) / SEEDS
    drawn = [policy.sample(DRAWS, 4, generator=seeded(k)) for k in range(SEEDS)]
    ratio = torch.tensor([_distance(drawn[k], exact[k]) / floor for k in range(SEEDS)])
    return f"{ratio.mean():.2f} ± {ratio.std() / SEEDS**0.5:.2f}"


def critic_section(steps: int, samples: int, folder: Path) -> str:
    """The section of the page.

    Args:
        steps: Of the value's training.
        samples: That it is learned from.
        folder: Where it is stored.
    """
    policy, reward = af.load("ring"), af.targets.ring_reward()
    torch.manual_seed(0)
    learned = af.learn_value(
        policy, reward, (0.0, STRENGTH), steps, 256, seeded(0), samples=samples,
        network=MLP(2, width=128, depth=3), folder=folder / "shipped_ring",
    )  # fmt: skip
    exact = RingValue(reward.name, digest(policy), (2,), (0.0, STRENGTH))
    rows = []
    for credit, options in CREDITS.items():
        variances = {}
        for name, critic in (("none", None), ("exact", exact), ("learned", learned)):
            options = options | {"critic": critic}
            found = variances[name] = variance(af.load("ring"), policy, **options)
            row = [credit, name, f"{found / variances['none']:.2f}", ""]
            if critic is not exact:
                tuned = af.finetune(
                    policy, reward, "grpo", STRENGTH, steps=STEPS, batch_size=EPISODES,
                    episodes=EPISODES, learning_rate=1e-3, generator=seeded(0), **options,
                )  # fmt: skip
                row[-1] = floors(tuned)
            rows.append(row)
            print(row, flush=True)
    head = ["credit, scale", "critic", "variance at the base", "distance after the tuning"]
    about = (
        f"The shipped ring, strength {STRENGTH:g}, {STEPS} steps of {EPISODES} fresh episodes of 8 "
        f"steps each. Variance of a batch's gradient, over {BATCHES} batches, as a multiple of "
        f"that without a critic; distance of {DRAWS:,} samples in four jumps to the tilt, over the "
        "sampling floor; one training of each."
    )
    parts = ["## As the critic of grpo", about]
    return "\n\n".join([*parts, table(head, rows)])


def _distance(one: Tensor, other: Tensor) -> float:
    return float(sliced_wasserstein(one, other, generator=seeded(0)))
