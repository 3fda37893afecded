"""Is `af.advise` right? Its forecasts beside what all methods really reach, on three models.

    python scripts/bench/advise.py [--only Ring]

Sections are stored under outputs/advise, and the page is written once all are there. The truth is
a large sample of the base, reweighted. Each row of the advice is run at its setting; and each
method is run at all settings within the budget, for the cheapest that reaches the tilt.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from page import table, write_page
from torch import Tensor

import alignflow as af
from alignflow.steering import ChainRecipe, Importance
from alignflow.steering.advising import Advice, Row, importance_distance, work

FOLDER = Path("outputs/advise")
NEAR = 1.25
"""Times the cost of the cheapest method up to which a choice is right."""
NOISE = 2.0
"""Standard errors by which a distance may exceed the tolerance."""


@dataclass
class Case:
    """A model and a tilt, with what the truth is made of.

    Args:
        policy: The model.
        tilt: The tilt.
        jumps: Of a sample of the base.
        budget: Forwards a sample.
        samples: Of the pilot.
        draws: Samples of a method.
        base: Samples of the base that are reweighted.
        rows: Through the model at a time.
    """

    policy: Any
    tilt: af.Tilt
    jumps: int
    budget: int
    samples: int
    draws: int
    base: int
    rows: int

    def steerer(self, recipe: Any, steps: int) -> Any:
        return af.steer(self.policy, self.tilt, recipe, steps=steps, micro_batch_size=self.rows)


def ring() -> Case:
    """The shipped network, and a quadratic reward."""
    return Case(
        af.load("ring"), af.Tilt(af.targets.ring_reward(), 2.0), 4, 128, 2048, 8192, 40_000, 8192
    )


def mixture() -> Case:
    """A closed form in 8 dimensions, whose jumps are its ODE."""
    target = af.targets.mixture(dimension=8)
    tilt = af.Tilt(af.targets.mixture_quadratic_reward(target), 2.0)
    return Case(target, tilt, 1, 32, 1024, 768, 20_000, 1024)


def names() -> Case:
    """The shipped network of strings, and the length of a name."""
    return Case(af.load("names"), af.Tilt(af.rewards.Length(), 0.5), 4, 56, 1024, 768, 10_000, 512)


CASES = {
    "Ring": ring,
    "Mixture": mixture,
    "Names": names,
}


class Truth:
    """The tilt by a large sample of the base.

    Args:
        case: Whose tilt.
    """

    def __init__(self, case: Case):
        steerer = case.steerer(Importance(particles=1), case.jumps)
        # as samples of one particle are the base's
        parts = [steerer.sample(1000, generator=100 + k) for k in range(case.base // 1000)]
        self.rewards = torch.cat([part["reward"] for part in parts]).double()
        self.weight = case.tilt.log_weight(self.rewards).softmax(0)

    def distance(self, rewards: Tensor) -> float:
        """The largest error of P(r > c) over all c."""
        levels = self.rewards.unique()
        order = self.rewards.argsort()
        total = torch.cat([torch.zeros(1).double(), self.weight[order].cumsum(0)])
        exact = total[torch.searchsorted(self.rewards[order], levels, right=True)]
        found = torch.searchsorted(rewards.double().sort().values, levels, right=True)
        return (found / len(rewards) - exact).abs().max().item()


def measured(case: Case, truth: Truth, row: Row, tolerance: float) -> tuple[float, int | None]:
    """Distance of a row at its setting; the cost of the cheapest setting that reaches the tilt."""
    recipe: Any = row.recipe
    if not isinstance(recipe, ChainRecipe):
        out = case.steerer(recipe, row.steps).sample(case.draws, generator=1)
        distance = truth.distance(out["reward"])
        costs = [(work(row.cost), distance)]
        if row.method == "importance":
            particles = range(1, case.budget // case.jumps + 1)
            costs = [(case.jumps * n, importance_distance(truth.weight, n)) for n in particles]
        return distance, cheapest(costs, tolerance)
    first, second = (work(case.steerer(recipe, steps).cost) for steps in (1, 2))
    each = second - first
    steerer = case.steerer(recipe, 1 + (case.budget - first) // each)
    out = steerer.sample(case.draws, generator=1, return_chain=True)
    distances = [truth.distance(rewards) for rewards in out["chain_reward"].T]
    costs = [(first + each * step, left) for step, left in enumerate(distances[1:])]
    return distances[row.steps], cheapest(costs, tolerance)


def cheapest(costs: list[tuple[int, float]], tolerance: float) -> int | None:
    """The first cost at whose distance the tilt is reached."""
    return next((cost for cost, distance in costs if distance <= tolerance), None)


def section(name: str) -> str:
    case = CASES[name]()
    advice = af.advise(
        case.policy,
        case.tilt,
        budget=case.budget,
        jumps=case.jumps,
        samples=case.samples,
        micro_batch_size=case.rows,
        generator=0,
    )
    print(repr(advice))
    truth = Truth(case)
    rows, costs = [], {}
    for row in advice.rows:
        distance, cost = measured(case, truth, row, advice.tolerance)
        costs[row] = (None if row.biased else cost, distance)
        rows.append(
            [
                f"**{_setting(row)}**" if row is advice.best else _setting(row),
                f"{row.cost.nfe}" + (f" + {row.cost.vjps} gradients" if row.cost.vjps else ""),
                f"{row.distance:.2f}" + (f" ± {row.error:.2f}" if row.error else ""),
                f"{distance:.3f}",
                "biased" if row.biased else row.needed or "-",
                "" if row.biased else cost or f"over {case.budget}",
            ]
        )
        print(rows[-1])
    head = ["method at its setting", "forwards", "distance, foretold", "distance, true",
            "cost to reach, advised", "cost to reach, true"]  # fmt: skip
    about = (
        f"{CASES[name].__doc__} Strength {case.tilt.strength:g}, budget {case.budget} forwards a "
        f"sample, {case.samples:,} samples in the pilot, {case.draws:,} of each method."
    )
    judged = f"Advised: {advice}. {_judged(advice, costs, case.draws)}"
    return "\n\n".join([f"## {name}", about, table(head, rows), judged])


def _setting(row: Row) -> str:
    options = {"steps": row.steps, **row.options}
    return ", ".join([row.method, *(f"{name}={value}" for name, value in options.items())])


def _judged(advice: Advice, costs: dict[Row, tuple[int | None, float]], draws: int) -> str:
    """Whether the choice was right, in a sentence."""
    found = {row: cost for row, (cost, _) in costs.items() if cost is not None}
    best = advice.best
    if not advice.reached or not found:
        agree = bool(advice.reached) == bool(found)
        return f"The answer was {'right' if agree else 'wrong'}."
    least = min(found, key=lambda row: found[row])
    within = costs[best][1] <= advice.tolerance + NOISE * 0.5 / draws**0.5
    near = work(best.cost) <= NEAR * found[least]
    told = (
        f"The cheapest in truth is {least.method} at {found[least]} forwards; the choice "
        f"costs {work(best.cost)} and ends at {costs[best][1]:.3f}"
    )
    return f"{told}: {'right' if within and near else 'wrong'}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=CASES, help="make this section, and no page")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    FOLDER.mkdir(parents=True, exist_ok=True)
    chosen = [options.only] if options.only else [*CASES]
    for name in chosen:
        if not (FOLDER / f"{name}.md").exists():
            (FOLDER / f"{name}.md").write_text(section(name))
    if options.only:
        return
    sections = [(FOLDER / f"{name}.md").read_text() for name in CASES]
    about = (
        "The table of `af.advise`, beside the truth: a larger sample of the base, reweighted. "
        "Distances are the largest error of a probability P(r > c), and .05 counts as reached; "
        "the true ones are over all c, with a noise of about .4 over the root of the samples. The "
        "cost to reach is that of the cheapest setting within the budget (steps of a chain, "
        "particles of importance; of others, that of the row); a gradient counts as two forwards. "
        f"A choice, in bold, is right if it ends within the tolerance (and {NOISE:g} standard "
        f"errors) and costs at most {NEAR:g} times the cheapest method in truth."
    )
    write_page("advise", "Is the advice right?", about, *sections)


if __name__ == "__main__":
    main()
