r"""What each method would cost to reach the tilt, from the pilot and short runs of its own.

- `importance`, `best_of_n`: their distance is a function of the pilot's weights (`formulas`), and
  the particles follow from it.
- `waltz`, `source_mcmc`: chains from the base. What is left of the error of each event is fitted,
  and the slowest says how many steps are needed.
- `fk`, `glass` (by a stochastic map `mfm_gf`), and with a learned value `value_guidance`: a run at
  the most particles, draws or steps, halved for as long as it reaches the tilt.
- `lookahead`, `lookahead_weighted`: a run, to show where they end. They are biased for any reward
  that is not linear, or ascend it, and more forwards do not help.

No short run takes more than the budget, or than twice the cheapest method so far. Forwards,
gradients and reward calls are counted in dry runs. Seconds are those of the short runs, in
proportion to the forwards.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from alignflow.values import ValueFunction

from ..recipes import (
    FK,
    GLASS,
    MFMGF,
    BestOfN,
    ChainRecipe,
    Importance,
    Lookahead,
    LookaheadWeighted,
    Recipe,
    SourceMCMC,
    ValueGuidance,
    Waltz,
)
from .advice import Row, work
from .formulas import best_of_n_distance, fit_relaxation, importance_distance, within
from .study import Study

__all__ = ["candidates", "longer", "measured"]

RARE = 0.05
"""ESS of a sample of the base below which chains are tried with replicas too."""
REPLICAS = 4
STEPS = 8
"""Of methods over a grid."""
LEAST_STEPS = 4
"""Of a chain, from which a fit is made."""
FARTHEST = 20
"""Times the steps that were seen, beyond which no steps are foretold."""
GROWTH = 1.5
"""Of what did not reach the tilt in a check."""

Sized = Callable[[int], tuple[Recipe, int]]
"""A callable from particles, draws or steps to a method and its steps."""


def candidates(study: Study) -> Iterator[tuple[str, Callable[[Study], Row]]]:
    """Name and estimate of each method, a callable `study -> Row` that raises ValueError."""
    jumps, differentiable = study.pilot.jumps, study.tilt.reward.differentiable
    yield "importance", _importance
    yield "best_of_n", _best_of_n
    # a stochastic map has no inner steps
    inner = (4,) if study.policy.has_posterior_flow else (4, 2)
    kernels = ("pcn", "pcnl") if differentiable else ("pcn",)
    rare = study.pilot.ess / len(study.pilot.weight) < RARE
    for particles in (1, REPLICAS) if rare else (1,):
        for steps in inner:
            waltz = Waltz(jumps=jumps, particles=particles, inner_steps=steps)
            yield f"waltz inner_steps={steps}", partial(_chain, recipe=waltz)
        for kernel in kernels:
            source = SourceMCMC(kernel=kernel, jumps=jumps, particles=particles)
            yield f"source_mcmc kernel={kernel}", partial(_chain, recipe=source)
    yield "fk", partial(_halved, sized=_fk)
    drawn = MFMGF if study.policy.has_posterior_flow else GLASS
    yield drawn.name, partial(_halved, sized=partial(_drawn, drawn))
    if study.value is not None:
        yield "value_guidance", partial(_halved, sized=partial(_guided_by, study.value))
    if differentiable:
        yield "lookahead", partial(_biased, recipe=Lookahead(), remark="ascends")
        yield "lookahead_weighted", partial(_biased, recipe=LookaheadWeighted(), remark="biased")


def longer(row: Row) -> tuple[Recipe, int]:
    """A method and its steps, with half as many more steps of a chain, particles or draws."""

    def grown(count: int) -> int:
        return math.ceil(GROWTH * count)

    recipe: Any = row.recipe
    if isinstance(recipe, FK):
        return replace(recipe, particles=grown(recipe.particles)), row.steps
    if isinstance(recipe, MFMGF | GLASS):
        return replace(recipe, draws=grown(recipe.draws)), row.steps
    return recipe, grown(row.steps)


def _importance(study: Study) -> Row:
    weight = study.pilot.weight
    return _selection(study, Importance, lambda particles: importance_distance(weight, particles))


def _best_of_n(study: Study) -> Row:
    rewards, weight = study.pilot.rewards, study.pilot.weight

    def distance(particles: int) -> float:
        return best_of_n_distance(rewards, weight, particles)

    # it falls until the samples are as high as those of the tilt, and rises from there
    particles = 1
    while particles < len(rewards) and distance(particles + 1) < distance(particles):
        particles += 1
    if distance(particles) > study.tolerance:
        most = study.budget // study.pilot.run.cost.nfe
        row = _selected(study, BestOfN(particles=min(particles, most)), distance, None)
        return replace(row, biased=True, remark="another distribution")
    return _selection(study, BestOfN, distance)


def _selection(study: Study, method: Callable, distance: Callable[[int], float]) -> Row:
    needed = within(distance, study.tolerance)
    most = study.budget // study.pilot.run.cost.nfe
    particles = most if needed is None else min(needed, most)
    return _selected(study, method(particles=particles), distance, needed)


def _selected(study: Study, recipe: Any, distance: Callable, needed: int | None) -> Row:
    jumps, particles = study.pilot.jumps, recipe.particles
    cost = study.steerer(recipe, jumps).cost
    return Row(
        recipe=recipe,
        steps=jumps,
        cost=cost,
        seconds=study.pilot.run.seconds * particles,
        distance=distance(particles),
        error=0.0,
        basis="weights",
        needed=None if needed is None else needed * (cost.nfe // particles),
        remark="" if needed is not None else "not seen to",
    )


def _chain(study: Study, recipe: ChainRecipe) -> Row:
    first, second = (study.work(recipe, steps) for steps in (1, 2))
    each = second - first

    def steps_within(budget: int) -> int:
        return 1 + (budget - first) // each

    seen, most = max(steps_within(study.limit), LEAST_STEPS), steps_within(study.budget)
    if seen > most:
        raise ValueError(f"{LEAST_STEPS} steps take {first + (LEAST_STEPS - 1) * each} forwards")
    run = study.run(study.steerer(recipe, seen))
    assert run.chain is not None
    left = study.pilot.left(run.chain)
    events = [fit_relaxation(gap[1:]) for gap in left.T]
    burn_in = max(event.burn_in(study.tolerance) for event in events)
    steps = min(burn_in, most)
    cost = study.steerer(recipe, steps).cost
    # what a chain has not been seen to near is not foretold
    moves = burn_in <= FARTHEST * seen
    return Row(
        recipe=recipe,
        steps=steps,
        cost=cost,
        seconds=run.seconds * cost.nfe / max(run.cost.nfe, 1),
        distance=max(event.distance(steps) for event in events),
        error=study.pilot.gap(run).error,
        basis="fit",
        needed=first + each * (burn_in - 1) if moves else None,
        remark="" if moves else "it hardly moves",
    )


def _fk(particles: int) -> tuple[Recipe, int]:
    return FK(transition="anchored", particles=particles), STEPS


def _drawn(method: type[MFMGF | GLASS], draws: int) -> tuple[Recipe, int]:
    return method(draws=draws), STEPS


def _guided_by(value: ValueFunction, steps: int) -> tuple[Recipe, int]:
    return ValueGuidance(value=value), steps


def _halved(study: Study, sized: Sized) -> Row:
    """The most of two or more within the limit, halved for as long as it reaches the tilt."""
    two, four = (study.work(*sized(size)) for size in (2, 4))
    limit = max(study.limit, min(two, study.budget))
    if two > limit:
        raise ValueError(f"the least of it takes {two} forwards")
    size = 2 + 2 * (limit - two) // (four - two)
    row = best = measured(study, *sized(size), "run")
    while row.needed is not None and size > 2:
        best, size = row, max(size // 2, 2)
        row = measured(study, *sized(size), "run")
    return row if row.needed is not None else best


def measured(study: Study, recipe: Recipe, steps: int, basis: Literal["run", "check"]) -> Row:
    """Where a run ends; its cost is what it needs if no more than the tolerance is left."""
    steerer = study.steerer(recipe, steps)
    run = study.run(steerer) if basis == "run" else study.check(steerer)
    gap = study.pilot.gap(run)
    reached = gap.within(study.tolerance)
    return Row(
        recipe=recipe,
        steps=steps,
        cost=steerer.cost,
        seconds=run.seconds,
        distance=gap.distance,
        error=gap.error,
        basis=basis,
        needed=work(steerer.cost) if reached else None,
        remark="" if reached else "not seen to",
    )


def _biased(study: Study, recipe: Recipe, remark: str) -> Row:
    return replace(measured(study, recipe, STEPS, "run"), biased=True, remark=remark)
