"""Markov chains on the portraits: what the trained posterior keeps, and a rare reward.

    python scripts/bench/chains_avatars.py [--part check|rare|page]

At strength 0 a chain must stay at the base: how far it wanders is the error of the posterior, or
of the map. The rare reward is the log-probability of glasses, hat and beard together, strength 1;
best-of-N and importance are computed from one pool of samples of one jump. Chains are stored under
outputs/chains_avatars, so that a run that was cut goes on where it was; without --part all is run.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from page import DOCS, shown, table, write_page
from torch import Tensor

import alignflow as af
from alignflow.data import ATTRIBUTES, avatars
from alignflow.metrics import Estimate, mean, sliced_wasserstein
from alignflow.policies import load_judge
from alignflow.precision import autocast, fastest
from alignflow.report.drawing import MODELS, frame, log_scale
from alignflow.rewards import Attribute, AttributeLogProbability
from alignflow.steering import ChainSteerer

FOLDER = Path("outputs/chains_avatars")
WANTED = ("glasses", "hat", "beard")
KEPT = (0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
POOL, PORTRAITS = 8192, 60_000
MAP = "avatars_posterior"
CHECKS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "stochastic map, t in (0, 0.9)": (MAP, 384, {"method": "waltz", "steps": 48}),
    "stochastic map, t in (0.3, 0.9)": (MAP, 192, {"method": "waltz", "steps": 24, "t_min": 0.3}),
    "stochastic map, t in (0, 0.5)": (MAP, 192, {"method": "waltz", "steps": 24, "t_max": 0.5}),
    "stochastic map, t in (0, 0.3)": (MAP, 192, {"method": "waltz", "steps": 24, "t_max": 0.3}),
    "GLASS, 7 forwards, t in (0, 0.9)": ("avatars", 192, {"method": "waltz", "steps": 8}),
}
STEPS = (0, 1, 2, 4, 6, 8, 11, 12, 16, 20, 23, 24)
GLASSES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "source_mcmc, fresh noise": (
        "avatars",
        512,
        {
            "method": "source_mcmc",
            "steps": 23,
            "jumps": 1,
            "kernel": {"name": "pcn", "step_size": 1.0},
        },
    ),
    "waltz by the stochastic map": (MAP, 384, {"method": "waltz", "steps": 24, "jumps": 1}),
    "waltz by the stochastic map, t in (0, 0.3)": (
        MAP,
        384,
        {"method": "waltz", "steps": 24, "jumps": 1, "t_max": 0.3},
    ),
}
CHAINS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "source_mcmc": (
        "avatars",
        64,
        {"method": "source_mcmc", "steps": 256, "jumps": 1,
         "kernel": {"name": "pcn", "acceptance": 0.25}},
    ),
    "source_mcmc, 4 replicas": (
        "avatars",
        48,
        {"method": "source_mcmc", "steps": 64, "jumps": 1, "particles": 4,
         "kernel": {"name": "pcn", "acceptance": 0.25}},
    ),
    "waltz": (MAP, 64, {"method": "waltz", "steps": 128, "jumps": 1, "acceptance": 0.25}),
}  # fmt: skip
PARTICLES = 256
TEMPERED_NAME = f"source_mcmc, {PARTICLES} tempered particles"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rare() -> af.Reward:
    return af.Sum({name: (AttributeLogProbability(name), 1.0) for name in WANTED}, "rare")


# of source_mcmc: the reward, the strength, systems, options
TEMPERED: dict[str, tuple[Any, float, int, dict[str, Any]]] = {
    "glasses": (
        lambda: Attribute("glasses"),
        2.0,
        4,
        {"steps": 23, "kernel": {"name": "pcn", "step_size": 1.0}},
    ),
    "rare": (
        rare,
        1.0,
        4,
        {"steps": 48, "kernel": {"name": "pcn", "acceptance": 0.25}},
    ),
}


def chain(
    name: str,
    policy: str,
    n: int,
    options: dict,
    reward: Any,
    strength: float,
    seed: int = 0,
    kept: tuple[int, ...] = KEPT,
) -> dict:
    """States of n chains at the kept steps, all rewards, and the forwards of the last state."""
    file = FOLDER / f"{name}.pt"
    if file.exists():
        return torch.load(file)
    steerer = af.steer(af.load(policy), reward, strength=strength, micro_batch_size=64, **options)
    assert isinstance(steerer, ChainSteerer)
    with autocast(fastest()):
        out = steerer.sample(n, generator=seeded(seed), return_chain=True)
    steps = [step for step in kept if step <= options["steps"]]
    found = {
        "steps": steps,
        "states": out["chain"][:, steps].half(),
        "reward": out["chain_reward"].float(),
        "nfe": int(out["nfe"]),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(found, file)
    return found


def tempered(name: str) -> dict[str, Any]:
    """Tempered particles at the kept steps: weights, rewards, and what the judge finds."""
    file = FOLDER / f"tempered, {name}.pt"
    if file.exists():
        return torch.load(file)
    make, strength, systems, options = TEMPERED[name]
    kept = STEPS if name == "glasses" else KEPT
    shared = {"jumps": 1, "particles": PARTICLES, "population": "tempering"}
    steerer = af.steer(
        af.load("avatars"), make(), "source_mcmc", strength=strength, micro_batch_size=64,
        **shared, **options,
    )  # fmt: skip
    shape = (systems, PARTICLES)
    parts: dict[str, list[Any]] = {key: [] for key in ("step", "weight", "reward", "held")}

    def keep(step: int, batch: Any) -> None:
        if step + 1 not in kept:
            return
        reward = batch["reward"].double().view(shape)
        left = strength * (1 - batch["tilt_fraction"].double().view(shape))
        parts["step"].append(step + 1)
        parts["weight"].append((left * reward).softmax(1))
        parts["reward"].append(reward)
        parts["held"].append(judged(batch["state"])[:, : len(WANTED)].all(1).view(shape))

    with autocast(fastest()):
        steerer.sample(systems, generator=seeded(2), callback=keep)
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(parts, file)
    return parts


def of_systems(found: dict[str, Any], key: str, k: int) -> Estimate:
    """The weighted mean of a system at the k-th kept step, a mean over systems."""
    return mean((found["weight"][k] * found[key][k].double()).sum(1))


def distinct(k: int) -> str:
    """Percentage of the rare reward's particles at the k-th kept step that have no copy."""
    rewards = tempered("rare")["reward"][k]
    return f"{100 * sum(len(row.unique()) for row in rewards) / rewards.numel():.0f}"


def pool() -> tuple[Tensor, Tensor]:
    """Samples of one jump as their rewards, and whether the judge finds all that is wanted."""
    file = FOLDER / "pool.pt"
    if not file.exists():
        policy, reward, rewards, held = af.load("avatars"), rare(), [], []
        for start in range(0, POOL, 256):
            with torch.no_grad(), autocast(fastest()):
                states = policy.sample(256, 1, generator=seeded(start)).float()
            rewards.append(reward.score(states, decode=policy.decode))
            held.append(judged(states)[:, : len(WANTED)].all(1))
        FOLDER.mkdir(parents=True, exist_ok=True)
        torch.save((torch.cat(rewards), torch.cat(held)), file)
    rewards, held = torch.load(file)
    return rewards.double(), held.double()


@torch.no_grad()
def judged(states: Tensor) -> Tensor:
    """Which attributes the judge, which no method sees, finds in states, (N, 6)."""
    judge = load_judge("avatars")
    assert tuple(judge.labels) == ATTRIBUTES
    return torch.cat([judge(part) for part in decoded(states.float()).split(1000)]) > 0


def check() -> str:
    """Rates along chains at strength 0, and their distance to the data over the floor."""
    pixels = avatars(PORTRAITS).pixels
    rows = []
    for name, (policy, n, options) in CHECKS.items():
        found = chain(name, policy, n, options, Attribute("glasses"), 0.0)
        exact = [pixels[k * n : (k + 1) * n].float() / 127.5 - 1 for k in range(16)]
        floor = mean(torch.tensor([distance(exact[k], exact[8 + k]) for k in range(8)])).value
        for column, step in enumerate(found["steps"]):
            states = found["states"][:, column].float()
            held = judged(states).double()
            away = torch.tensor([distance(states, other) for other in exact[:4]])
            rates = (shown(mean(held[:, k])) for k in range(len(WANTED)))
            rows.append([name, step, *rates, f"{away.mean() / floor:.2f}"])
    of_data = judged(pixels[:8000].float() / 127.5 - 1).double().mean(0)[: len(WANTED)]
    rows.append(["data set", "", *(f"{rate:.3f}" for rate in of_data), "1.00"])
    return table(["posterior", "steps", *WANTED, "sliced W2 / floor"], rows)


def glasses() -> str:
    """Rates of glasses along chains of strength 2, by the reward, and their error."""
    reward, pixels = Attribute("glasses"), avatars(20_000).pixels
    scored = reward.score(pixels.float() / 127.5 - 1, decode=decoded).double()
    weight = (2 * scored).softmax(0)
    exact, rows = (weight @ scored).item(), []
    for name, (policy, n, options) in GLASSES.items():
        found = chain(f"glasses, {name}", policy, n, options, reward, 2.0, 1, STEPS)
        rates = reward.score(found["states"].flatten(0, 1).float(), decode=decoded).double()
        for step, column in zip(found["steps"], rates.view(n, -1).unbind(1), strict=True):
            error = 100 * (mean(column).value - exact)
            cost = found["nfe"] - options["steps"] + step
            rows.append([name, cost, shown(mean(column)), f"{error:+.1f}"])
    found = tempered("glasses")
    for k, step in enumerate(found["step"]):
        rate = of_systems(found, "reward", k)
        error = f"{100 * (rate.value - exact):+.1f}"
        rows.append([TEMPERED_NAME, step + 1, shown(rate), error])
    head = ["", "forwards", "rate of glasses", f"less that of the exact tilt, {exact:.3f}, points"]
    return table(head, rows)


def decoded(states: Tensor) -> Tensor:
    return ((states + 1) / 2).clamp(0, 1)


def distance(x: Tensor, y: Tensor) -> float:
    return float(sliced_wasserstein(x, y, generator=seeded(0)))


def best_of(n: int, reward: Tensor, held: Tensor) -> tuple[float, float]:
    """Mean reward and rate of the best of n, exact over all groups of the pool."""
    order = reward.argsort()
    rank = torch.arange(len(order) + 1, dtype=torch.float64) / len(order)
    weight = rank[1:] ** n - rank[:-1] ** n
    return (weight @ reward[order]).item(), (weight @ held[order]).item()


def importance(n: int, reward: Tensor, held: Tensor) -> tuple[float, float]:
    """The same of one of n drawn by its weight, over the groups of shuffled pools."""
    sums = torch.zeros(2, dtype=torch.float64)
    for seed in range(8):
        rows = torch.randperm(len(reward), generator=seeded(seed))[: len(reward) // n * n]
        weight = reward[rows].view(-1, n).softmax(1)
        for k, values in enumerate((reward, held)):
            sums[k] += (weight * values[rows].view(-1, n)).sum(1).mean() / 8
    return sums[0].item(), sums[1].item()


def forwards_for(wanted: float, curve: list[tuple[int, float]]) -> float:
    """Forwards at which a rising curve of mean rewards is at the one wanted; infinite beyond."""
    for (low, worse), (high, better) in zip(curve, curve[1:], strict=False):
        if worse <= wanted <= better:
            return low * (high / low) ** ((wanted - worse) / (better - worse))
    return math.inf if wanted > curve[-1][1] else curve[0][0]


def rare_section() -> list[str]:
    rewards, held = pool()
    numbers = [2**k for k in range(12)]
    curves: dict[str, list[tuple[int, float]]] = {"best of N": [], "importance": []}
    rows = []
    for n in numbers:
        for name, found in (
            ("best of N", best_of(n, rewards, held)),
            ("importance", importance(n, rewards, held)),
        ):
            curves[name].append((n, found[0]))
            if n >= 16 and numbers.index(n) % 2 == 1:
                rows.append([f"{name}, N = {n:,}", n, f"{found[0]:.2f}", f"{found[1]:.3f}", "", ""])
    drawn: dict[str, list[tuple[int, Estimate]]] = {}
    for name, (policy, n, options) in CHAINS.items():
        found = chain(f"rare, {name}", policy, n, options, rare(), 1.0)
        each = found["nfe"] / (options["steps"] + 1)
        drawn[name] = []
        for column, step in enumerate(found["steps"]):
            cost, reward = int((step + 1) * each), mean(found["reward"][:, step].double())
            drawn[name].append((cost, reward))
            if cost < 16:
                continue
            rate = mean(judged(found["states"][:, column])[:, : len(WANTED)].all(1).double())
            rows.append(rare_row(name, cost, reward, rate, curves, numbers[-1]))
    drawn[TEMPERED_NAME] = []
    found, top = tempered("rare"), numbers[-1]
    for k, step in enumerate(found["step"]):
        cost, reward = step + 1, of_systems(found, "reward", k)
        drawn[TEMPERED_NAME].append((cost, reward))
        rows.append(
            rare_row(TEMPERED_NAME, cost, reward, of_systems(found, "held", k), curves, top)
        )
    exact = exact_tilt()
    rows.append(["exact tilt of the data set", "", f"{exact[0]:.2f}", f"{exact[1]:.3f}", "", ""])
    picture(curves, drawn, exact[0])
    head = ["", "forwards", "mean reward", "rate of all three (judge)"]
    return [
        table(head + [f"{name} pays, times" for name in curves], rows),
        "![Mean reward against forwards a sample](chains_avatars.png)",
    ]


def rare_row(
    name: str, cost: int, reward: Estimate, rate: Estimate, curves: dict, top: int
) -> list[Any]:
    """A row of the table: what best of N and importance, known up to `top`, pay for the same."""
    ratios = (forwards_for(reward.value, curve) / cost for curve in curves.values())
    paid = (f"> {top / cost:.1f}" if math.isinf(ratio) else f"{ratio:.1f}" for ratio in ratios)
    return [name, cost, f"{reward.value:.2f} ± {reward.standard_error:.2f}", shown(rate), *paid]


def exact_tilt() -> tuple[float, float]:
    """Mean reward and rate of the data set, tilted."""
    file, pixels = FOLDER / "exact.pt", avatars(PORTRAITS).pixels
    if not file.exists():
        reward, decode = rare(), af.load("avatars").decode
        parts = [part.float() / 127.5 - 1 for part in pixels.split(1000)]
        with torch.no_grad():
            torch.save(torch.cat([reward.score(part, decode=decode) for part in parts]), file)
    rewards = torch.load(file).double()
    weight = rewards.softmax(0)
    top = weight.topk(2000)
    found = judged(pixels[top.indices].float() / 127.5 - 1)[:, : len(WANTED)].all(1)
    return (weight @ rewards).item(), (top.values @ found.double()).item()


def picture(curves: dict, drawn: dict, exact: float) -> None:
    with frame(6.0, 3.8) as figure:
        plotted(figure, curves, drawn, exact)
        figure.savefig(DOCS / "chains_avatars.png", dpi=150)


def plotted(figure: Figure, curves: dict, drawn: dict, exact: float) -> None:
    axes = figure.subplots()
    for k, (name, curve) in enumerate(curves.items()):
        costs, values = zip(*curve, strict=True)
        axes.plot(costs, values, "--", color=MODELS[1 + k], label=name)
    for k, (name, points) in enumerate(drawn.items()):
        costs, values = zip(*points, strict=True)
        axes.errorbar(costs, [value.value for value in values],
                      yerr=[value.standard_error for value in values], marker="o",
                      markersize=3, color=MODELS[1 + len(curves) + k], label=name)  # fmt: skip
    axes.axhline(exact, color="black", linewidth=1)
    log_scale(axes, "x")
    axes.set(xlabel="forwards a sample", ylabel="mean reward, nats")
    axes.legend(frameon=False, fontsize=7.5)
    axes.grid()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("pool", *CHECKS, *CHAINS), help="one chain alone")
    options = parser.parse_args()
    if options.part == "pool":
        pool()
    elif options.part in CHECKS:
        chain(options.part, *CHECKS[options.part], Attribute("glasses"), 0.0)
    elif options.part in CHAINS:
        name = options.part
        chain(f"rare, {name}", *CHAINS[name], rare(), 1.0)
    else:
        write()


def write() -> None:
    write_page(
        "chains_avatars",
        "Markov chains on the portraits",
        "Rates by the judge, which no method sees; ± is one standard error. bfloat16.",
        "## At strength 0 a chain must stay at the base",
        "Every move of a waltz is then accepted, so that only the posterior can move it away. By "
        "the stochastic map it stays near the base with early times, which draw anew; without "
        "them it loses glasses and distance, for the map's draws at a single state of the middle "
        "of the path vary too much ([measured](posterior_avatars.md)). Before its draws were "
        "trained by their energy score, t in (0, 0.9) led to 1.42 floors in four steps. GLASS "
        "stays at the base, at seven forwards a draw. `source_mcmc` has no posterior and cannot "
        "drift.",
        check(),
        "## Glasses, strength 2",
        "One forward a step. A proposal of fresh noise is a new sample of the base, whose weight "
        "alone decides. A waltz in early times nearly does the same; late times move little, so "
        f"that with them it needs more steps. Tempered particles are {TEMPERED['glasses'][2]} "
        f"systems of {PARTICLES}; this weak tilt their weights reach at once, as those of "
        "importance do with as many, and the moves that follow part the copies.",
        glasses(),
        "## Glasses and hat and beard, strength 1",
        "The last columns are the forwards that best-of-N and importance pay for the mean reward "
        "of the chain, over its own, where each of their samples is one of its own N. Rates are of "
        f"few chains. Tempered particles are {TEMPERED['rare'][2]} systems of {PARTICLES}, over "
        "which the standard errors are; each step is weighted by what is left of the strength. The "
        "samples of a system are not independent: its first steps have copies of few, "
        f"{distinct(3)} % are distinct after {tempered('rare')['step'][3] + 1} forwards, "
        f"{distinct(5)} % after {tempered('rare')['step'][5] + 1}. The exact tilt is that of the "
        f"{PORTRAITS:,} portraits that the model learned from, among which it is equivalent to 33; "
        "nothing here has come to its end at that.",
        *rare_section(),
    )


if __name__ == "__main__":
    main()
