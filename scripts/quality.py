"""How good a shipped image model is, by its judge: for the model's card."""

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow.metrics import frechet_distance
from alignflow.policies import FlowMapPolicy, load, load_judge
from alignflow.posteriors import GLASSPosterior, StochasticMapPosterior
from alignflow.rewards import Attribute
from alignflow.targets import ATTRIBUTES, Images, avatars

BATCH = 500
STEPS = (1, 2, 4, 8)


@torch.no_grad()
def attribute_rates(policy: FlowMapPolicy, n: int = 2000) -> dict[str, str]:
    """Distance of each attribute's rate to real portraits', and the Frechet ratio, by map steps.

    Both sides are read by the judge, whose errors then cancel. The ratio is to the distance of two
    halves of the real portraits, of n each.
    """
    judge = load_judge("avatars")
    real = avatars(2 * n, first=300_000)
    rates, features = _judged(judge, _pixels(real))
    halves = float(frechet_distance(features[:n], features[n:]))
    measured = {f"Frechet distance of two halves of {n} real portraits": f"{halves:.4f}"}
    for steps in STEPS:
        generator = torch.Generator().manual_seed(1)
        drawn = [policy.sample(BATCH, steps, generator=generator) for _ in range(n // BATCH)]
        found, of_drawn = _judged(judge, policy.decode(torch.cat(drawn)))
        gaps = (found.mean(0) - rates.mean(0)).abs().tolist()
        shown = ", ".join(f"{name} {gap:.3f}" for name, gap in zip(ATTRIBUTES, gaps, strict=True))
        measured[f"gap of rates at {steps} steps, {n} samples"] = shown
        ratio = float(frechet_distance(of_drawn, features[:n])) / halves
        measured[f"Frechet ratio at {steps} steps"] = f"{ratio:.1f}"
    return measured


@torch.no_grad()
def class_accuracy(policy: FlowMapPolicy, judge_name: str, real: Images) -> dict[str, str]:
    """Share of samples that the judge takes for the class they were asked to be, by map steps."""
    judge = load_judge(judge_name)
    label = real.labels[real.condition or ""]
    classes = len(judge.labels)
    accuracy = _right(judge, _pixels(real), label)
    measured = {f"judge on {len(real)} real images": f"{accuracy:.1%}"}
    for steps in STEPS:
        generator = torch.Generator().manual_seed(1)
        condition = torch.arange(BATCH * 4) % classes
        drawn = [
            policy.decode(policy.sample(BATCH, steps, part, generator=generator))
            for part in condition.split(BATCH)
        ]
        accuracy = _right(judge, torch.cat(drawn), condition)
        measured[f"judge on {len(condition)} samples at {steps} steps"] = f"{accuracy:.1%}"
    return measured


@torch.no_grad()
def value_correlation(policy: FlowMapPolicy, states: int = 64, draws: int = 64) -> dict[str, str]:
    """Correlation of the value of glasses by one-forward draws with that by GLASS, at each time.

    The value is the log-mean of e^{2 r} over the draws at a state of the path to real portraits; by
    GLASS of the unconditional map, in 8 Heun steps, whose error is about that of 64 of Euler.
    """
    base, reward = load("avatars"), Attribute("glasses")
    x1 = _pixels(avatars(states, first=400_000)) * 2 - 1
    measured = {}
    for time in (0.1, 0.3, 0.5, 0.7):
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(x1.shape, generator=generator)
        batch = TensorDict(
            {"state": torch.lerp(noise, x1, time), "time": torch.full((states,), time)},
            batch_size=states,
        )
        values = []
        for posterior in (
            StochasticMapPosterior(policy, draws),
            GLASSPosterior(base, draws, inner_steps=8),
        ):
            rows = []
            for part in batch.split(8):
                posterior.draw(part, generator)
                endpoint = posterior(part)["endpoint"]
                scores = reward.score(endpoint.flatten(0, 1), decode=policy.decode)
                rows.append((2 * scores).exp().unflatten(0, (-1, draws)).mean(1).log())
            values.append(torch.cat(rows))
        found = torch.corrcoef(torch.stack(values))[0, 1].item()
        measured[f"correlation of values at time {time:g}, {states} states"] = f"{found:.3f}"
    return measured


def _pixels(images: Images) -> Tensor:
    return images.pixels.float() / 255


def _judged(judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each attribute is seen (N, A), and features (N, F)."""
    parts = [(judge(part), judge.features(part)) for part in images.split(BATCH)]
    logits, features = (torch.cat(column) for column in zip(*parts, strict=True))
    return (logits > 0).float(), features


def _right(judge, images: Tensor, label: Tensor) -> float:
    logits = torch.cat([judge(part) for part in images.split(BATCH)])
    return (logits.argmax(1) == label).float().mean().item()
