"""How good a shipped image model is, by its judge: for the model's card."""

from pathlib import Path

import torch
from rich.progress import track
from tensordict import TensorDict
from torch import Tensor

from alignflow.data import ATTRIBUTES, Images, avatars
from alignflow.metrics import frechet_distance
from alignflow.policies import FlowMapPolicy, load, load_judge
from alignflow.posteriors import DrawnPosterior, GLASSPosterior, StochasticMapPosterior
from alignflow.rewards import Attribute

BATCH = 500
STEPS = (1, 2, 4, 8)
SURE = 0.9
VALUE_TIMES = (0.1, 0.3, 0.5, 0.7)
REDRAWN_TIMES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


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
    """Share of samples that the judge takes for the class they were asked to be, by map steps.

    Of samples without a class: how often the judge is sure of one, and how even the classes are.
    """
    judge = load_judge(judge_name)
    label = real.labels[real.condition or ""]
    classes = len(judge.labels)
    pixels = _pixels(real)
    accuracy = _right(judge, pixels, label)
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
    return measured | _without_class(policy, judge, pixels, 4 * BATCH)


def _without_class(policy: FlowMapPolicy, judge, real: Tensor, n: int) -> dict[str, str]:
    generator = torch.Generator().manual_seed(1)
    drawn = [policy.sample(BATCH, 4, generator=generator) for _ in range(n // BATCH)]
    found, of_real = (
        judge(images).softmax(1) for images in (policy.decode(torch.cat(drawn)), real)
    )
    even = 1 / found.shape[1]
    apart = (found.mean(0) - even).abs().sum().item() / 2
    sure, sure_of_real = ((each.amax(1) > SURE).float().mean() for each in (found, of_real))
    return {
        f"judge above {SURE:.0%} sure of a class, {len(real)} real images": f"{sure_of_real:.1%}",
        f"the same, {n} samples without a class at 4 steps": f"{sure:.1%}",
        "total variation of their classes from even": f"{apart:.3f}",
    }


@torch.no_grad()
def value_correlation(policy: FlowMapPolicy, states: int = 64, draws: int = 64) -> dict[str, str]:
    """Correlation of the value of glasses by one-forward draws with that by GLASS, at each time.

    The value is the log-mean of e^{2 r} over the draws at a state of the path to real portraits; by
    GLASS of the unconditional map, in 8 Heun steps, whose error is about that of 64 of Euler. Both
    values have the noise of their draws: what GLASS reaches with itself, half the draws each, is
    told beside.
    """
    measured = {}
    for time in VALUE_TIMES:
        state = _noisy_portraits(states, time)
        exact = _glass_scores(state, time, draws)
        drawn = _scores(StochasticMapPosterior(policy, draws), state, time, seed=2)
        found = _correlation(_value(drawn), _value(exact))
        halves = _correlation(*map(_value, exact.chunk(2, dim=1)))
        measured[f"correlation of values at time {time:g}, {states} states, {draws} draws"] = (
            f"{found:.3f}; of GLASS with itself, {draws // 2} draws each: {halves:.3f}"
        )
    return measured


@torch.no_grad()
def redrawn(policy: FlowMapPolicy, n: int = 512) -> dict[str, str]:
    """Portraits noised to each time and drawn again, which must be portraits again.

    Their variance, the mean over coordinates, is over that of the portraits; gaps of rates are by
    the judge, to those of the same portraits, and have the noise of n draws.
    """
    judge = load_judge("avatars")
    real = _pixels(avatars(n, first=400_000))
    rates, variance = _judged(judge, real)[0].mean(0), real.var(0).mean()
    measured = {}
    for time in REDRAWN_TIMES:
        state, generator = _noisy_portraits(n, time), torch.Generator().manual_seed(2)
        batch = TensorDict({"state": state, "time": torch.full((n,), time)}, batch_size=n)
        posterior, parts = StochasticMapPosterior(policy), []
        for part in batch.split(64):
            posterior.draw(part, generator)
            parts.append(policy.decode(posterior(part)["endpoint"][:, 0]))
        drawn = torch.cat(parts)
        gaps = (_judged(judge, drawn)[0].mean(0) - rates).tolist()
        shown = ", ".join(f"{name} {gap:+.3f}" for name, gap in zip(ATTRIBUTES, gaps, strict=True))
        ratio = (drawn.var(0).mean() / variance).item()
        measured[f"{n} portraits redrawn from time {time:g}"] = (
            f"variance {ratio:.3f} of theirs; rates {shown}"
        )
    return measured


def _noisy_portraits(n: int, time: float) -> Tensor:
    x1 = _pixels(avatars(n, first=400_000)) * 2 - 1
    noise = torch.randn(x1.shape, generator=torch.Generator().manual_seed(1))
    return torch.lerp(noise, x1, time)


def _glass_scores(state: Tensor, time: float, draws: int) -> Tensor:
    """Kept in outputs: a quarter of an hour of one core each, whatever map stands beside them."""
    stored = Path("outputs") / "glass_scores" / f"{len(state)}-{draws}-{time:g}.pt"
    if not stored.exists():
        scores = _scores(GLASSPosterior(load("avatars"), draws, inner_steps=8), state, time, seed=3)
        stored.parent.mkdir(parents=True, exist_ok=True)
        torch.save(scores, stored)
    return torch.load(stored)


def _scores(posterior: DrawnPosterior, state: Tensor, time: float, seed: int) -> Tensor:
    """Rewards (N, K) of the posterior's K draws at each of N states at one time."""
    generator, reward = torch.Generator().manual_seed(seed), Attribute("glasses")
    times = torch.full((len(state),), time)
    batch = TensorDict({"state": state, "time": times}, batch_size=len(state))
    rows = []
    for part in track(batch.split(8), f"{type(posterior).__name__} at time {time:g}"):
        posterior.draw(part, generator)
        endpoint = posterior(part)["endpoint"]
        scores = reward.score(endpoint.flatten(0, 1), decode=posterior.model.decode)
        rows.append(scores.unflatten(0, (-1, endpoint.shape[1])))
    return torch.cat(rows)


def _value(scores: Tensor) -> Tensor:
    return (2 * scores).exp().mean(1).log()


def _correlation(first: Tensor, second: Tensor) -> float:
    return torch.corrcoef(torch.stack((first, second)))[0, 1].item()


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
