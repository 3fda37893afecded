r"""What each method would cost to reach the tilt, from the pilot and short runs of its own.

- `importance`, `best_of_n`: their distance is a function of the pilot's weights (`formulas`), and
  the particles follow from it.
- `waltz`, `source_mcmc`: chains from the base, as long as the budget allows, give amplitude and
  rate of what is left; burn-in follows. A chain of `waltz` at strength 0 must stay at the base: by
  how much it leaves it, its posterior is off.
- `fk`: runs within the budget, the particles halved for as long as it reaches the tilt. Its bias
  falls like 1 / M (Del Moral 2004), but for that of its steps, so no more is foretold.
- Methods that follow a gradient with one particle: a run, to show where they end. They are biased
  for any reward that is not linear, or ascend it, and more forwards do not help.

Forwards, gradients and reward calls are counted in dry runs. Seconds are those of the short runs,
in proportion to the forwards.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from alignflow.flow_map import FlowMap
from alignflow.tilt import Tilt

from ..base_steerer import BaseSteerer
from ..building import build_steerer
from ..recipes import (
    FK,
    BestOfN,
    ChainRecipe,
    Importance,
    Lookahead,
    LookaheadWeighted,
    Recipe,
    SourceMCMC,
    Waltz,
)
from .advice import Row
from .formulas import (
    best_of_n_distance,
    fit_relaxation,
    importance_distance,
    unsure_distance,
    within,
)
from .pilot import Pilot, Run, run_short

__all__ = ["Study", "candidates"]

RARE = 0.05
"""ESS of a sample of the base below which chains are tried with replicas too."""
REPLICAS = 4


@dataclass(frozen=True)
class Study:
    """A tilt to reach, what is known of it, and what a sample may cost.

    Args:
        policy: The model.
        tilt: The tilt.
        pilot: Scored samples of the base.
        budget: The most forwards a sample.
        tolerance: Distance that counts as reached.
        systems: Of a short run.
        condition: One for all.
        shared: Options of every steerer.
        generator: Source of all randomness.
    """

    policy: FlowMap
    tilt: Tilt
    pilot: Pilot
    budget: int
    tolerance: float
    systems: int
    condition: Any
    shared: dict[str, Any]
    generator: Any

    def steerer(self, recipe: Recipe, steps: int, strength: float = 1.0) -> BaseSteerer:
        """Of a method, at a fraction of the strength."""
        tilt = self.tilt if strength == 1.0 else self.tilt.scaled(strength)
        return build_steerer(self.policy, tilt, recipe, steps, **self.shared)

    def run(self, steerer: BaseSteerer) -> Run:
        """A short run of a steerer."""
        return run_short(steerer, self.systems, self.condition, self.generator)

    def steps_within(self, recipe: Recipe) -> int:
        """The most steps of a chain within the budget."""
        first, second = (self.steerer(recipe, steps).cost.nfe for steps in (1, 2))
        if first > self.budget:
            raise ValueError(f"a step takes {first} forwards")
        return 1 + (self.budget - first) // max(second - first, 1)


def candidates(policy: FlowMap, tilt: Tilt, pilot: Pilot) -> Iterator[tuple[str, Callable]]:
    """Name and estimate of each method, a callable `study -> Row` that raises ValueError."""
    jumps = pilot.jumps
    yield "best_of_n", _best_of_n
    yield "importance", _importance
    yield "fk", _particles
    replicas = (1, REPLICAS) if pilot.ess_fraction < RARE else (1,)
    kernels = ("pcn", "pcnl") if tilt.reward.differentiable else ("pcn",)
    for particles in replicas:
        yield "waltz", partial(_chain, recipe=Waltz(jumps=jumps, particles=particles))
        for kernel in kernels:
            recipe = SourceMCMC(kernel=kernel, jumps=jumps, particles=particles)
            yield "source_mcmc", partial(_chain, recipe=recipe)
    if tilt.reward.differentiable:
        yield "lookahead", partial(_guided, recipe=Lookahead(), remark="ascends")
        yield "lookahead_weighted", partial(_guided, recipe=LookaheadWeighted(), remark="biased")


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
        most = max(study.budget // study.pilot.jumps, 1)
        row = _selected(study, BestOfN(particles=min(particles, most)), distance, None)
        return row if particles > most else _biased(row, "other distribution")
    return _selection(study, BestOfN, distance)


def _selection(study: Study, method: Callable, distance: Callable[[int], float]) -> Row:
    needed = within(distance, study.tolerance)
    most = max(study.budget // study.pilot.jumps, 1)
    particles = most if needed is None else min(needed, most)
    return _selected(study, method(particles=particles), distance, needed)


def _selected(study: Study, recipe: Any, distance: Callable, needed: int | None) -> Row:
    jumps, particles = study.pilot.jumps, recipe.particles
    steerer = study.steerer(recipe, jumps)
    each = steerer.cost.nfe // particles
    return Row(
        recipe=recipe,
        steps=jumps,
        cost=steerer.cost,
        seconds=study.pilot.run.seconds * particles,
        distance=distance(particles),
        error=0.0,
        needed=None if needed is None else needed * each,
    )


def _biased(row: Row, remark: str) -> Row:
    return Row(**{**vars(row), "biased": True, "remark": remark})


def _chain(study: Study, recipe: ChainRecipe) -> Row:
    pilot, most = study.pilot, study.steps_within(recipe)
    steerer = study.steerer(recipe, most)
    run = study.run(steerer)
    exact, exact_errors = pilot.probabilities()
    above = (run.rewards > pilot.witness).double()
    relaxation = fit_relaxation(exact[0] - above[:, 1:].mean(0))
    burn_in = relaxation.burn_in(study.tolerance)
    steps = min(burn_in, most)
    late = above[:, (most + 1) // 2 :].mean(1)
    error = math.hypot((late.std() / len(late) ** 0.5).item(), exact_errors[0].item())
    drift = _drift(study, recipe, steps) if isinstance(recipe, Waltz) else 0.0
    one, cost = study.steerer(recipe, 1).cost, study.steerer(recipe, steps).cost
    each = study.steerer(recipe, 2).cost.nfe - one.nfe
    needed: int | None = one.nfe + each * (burn_in - 1)
    remark = f"autocorrelation {relaxation.autocorrelation_time:.2g} steps"
    # what a chain has not been seen to near is not foretold
    if burn_in > 20 * most:
        needed, remark = None, "it hardly moves"
    if drift > study.tolerance:
        needed, remark = None, f"its posterior is off by {drift:.2f}"
    return Row(
        recipe=recipe,
        steps=steps,
        cost=cost,
        seconds=run.seconds * cost.nfe / max(run.cost.nfe, 1),
        distance=relaxation.distance(steps) + drift,
        error=error,
        needed=needed,
        remark=remark,
    )


def _drift(study: Study, recipe: ChainRecipe, steps: int) -> float:
    """How far a chain at strength 0 has left the base, beyond two standard errors; else 0."""
    run = study.run(study.steerer(recipe, steps, strength=0.0))
    above = (run.rewards > study.pilot.witness).double()
    change = above[:, -1] - above[:, 0]
    drift, error = change.mean().abs().item(), (change.std() / len(change) ** 0.5).item()
    return drift if drift > 2 * error else 0.0


def _particles(study: Study) -> Row:
    recipe = FK(transition="anchored", particles=2)
    steps = recipe.default_steps
    pair = study.steerer(recipe, steps).cost.nfe
    particles = 2 * (study.budget // pair)
    if not particles:
        raise ValueError(f"two particles take {pair} forwards")
    row = _measured(study, FK(transition="anchored", particles=particles), steps)
    best = row
    while row.needed is not None and row.recipe.particles > 2:  # type: ignore[attr-defined]
        best = row
        fewer = row.recipe.particles // 2  # type: ignore[attr-defined]
        row = _measured(study, FK(transition="anchored", particles=fewer), steps)
    return row if row.needed is not None else best


def _measured(study: Study, recipe: Recipe, steps: int) -> Row:
    """Where a run ends; it reaches the tilt if that is within the tolerance by two errors' room."""
    pilot, steerer = study.pilot, study.steerer(recipe, steps)
    run = study.run(steerer)
    distance, error = unsure_distance(*pilot.of_particles(run), *pilot.probabilities())
    reached = distance <= max(study.tolerance, 2 * error)
    return Row(
        recipe=recipe,
        steps=steps,
        cost=steerer.cost,
        seconds=run.seconds,
        distance=distance,
        error=error,
        needed=steerer.cost.nfe if reached else None,
    )


def _guided(study: Study, recipe: Recipe, remark: str) -> Row:
    steps = min(recipe.default_steps, study.budget)
    return _biased(_measured(study, recipe, steps), remark)
