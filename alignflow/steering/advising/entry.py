"""`advise`: which method reaches a tilt within a budget of forwards, by a pilot."""

from collections.abc import Callable
from typing import Any

import torch

from alignflow import checks
from alignflow.conditions import count_rows
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.progress import Update, watched
from alignflow.reward_module import NotFiniteError, Reward, RewardError
from alignflow.tilt import DefaultStrength, Tilt, as_tilt

from ..building import build_steerer
from ..recipes import Importance
from .advice import Advice, Row
from .candidates import Study, candidates
from .pilot import ROWS, run_pilot

__all__ = ["advise"]


@checks.refuse_seed
@watched
def advise(
    policy: FlowMap,
    reward: Tilt | Reward | Callable[..., Any],
    strength: float = DefaultStrength(1.0),
    budget: int = 64,
    *,
    condition: Any = None,
    jumps: int = 4,
    tolerance: float = 0.05,
    samples: int = 1024,
    guidance: float = 1.0,
    micro_batch_size: int | None = None,
    generator: torch.Generator | int | None = None,
    progress: Update | None = None,
) -> Advice:
    """What each method would cost to reach a tilt of this model, and the cheapest that does.

    A pilot scores samples of the base. Where the cost of a method follows from their weights it is
    computed, and otherwise measured in short runs within the budget; formulas and sources are in
    `alignflow.steering.advising.formulas` and `.candidates`. The pilot costs about as many
    forwards as a few hundred samples do at the budget.

    Args:
        policy: The model.
        reward: A tilt, a reward, or any callable as a black box.
        strength: lambda of the tilt, of a reward without one.
        budget: The most forwards of the network a sample.
        condition: One for all samples.
        jumps: Of the flow map from noise to a sample of the base.
        tolerance: Distance to the tilt, in total variation, that counts as reached.
        samples: Of the base that the pilot scores; short runs are of a quarter as many.
        guidance: Of classifier-free guidance; 1 is the conditional model itself.
        micro_batch_size: Rows that go through the model at a time, 256 by default.
        generator: Source of all randomness, or its seed.
        progress: Called with what is done, of how much, and metrics; a bar on a terminal if None.

    Returns:
        An `Advice`, which prints as a table: `rows`, `best`, `reached`, `verdict`.

    Raises:
        ValueError: If a number is out of range, or the budget is less than a sample of the base.
        RewardError: If the reward fails.
    """
    check_flow_map("policy", policy)
    tilt, generator = as_tilt(reward, strength), checks.as_generator(generator)
    jumps, budget = checks.count("jumps", jumps), checks.count("budget", budget)
    tolerance = checks.fraction("tolerance", tolerance, zero=False, one=False)
    samples = checks.count("samples", samples, least=64)
    _check_condition(condition)
    rows = ROWS if micro_batch_size is None else micro_batch_size
    shared = {"guidance": guidance, "micro_batch_size": rows}
    base = build_steerer(policy, tilt, Importance(particles=1), jumps, **shared)
    if base.cost.nfe > budget:
        raise ValueError(
            f"budget={budget} is less than a sample of the base, which takes {base.cost.nfe} "
            f"forwards in jumps={jumps}"
        )
    pilot = run_pilot(base, samples, condition, generator)
    study = Study(
        policy, tilt, pilot, budget, tolerance, samples // 4, condition, shared, generator
    )
    found, skipped = _try_all(study, progress)
    mean, tilted = pilot.mean_rewards()
    facts = {
        "effective size of the pilot": f"{pilot.ess:.0f} of {samples}",
        "mean reward": f"{mean} of the base, {tilted:.4g} of the tilt",
        "gradient of the reward": "known" if tilt.reward.differentiable else "none (a black box)",
        "stochastic map": "there is one" if policy.has_posterior_flow else "none",
        "a forward": f"{pilot.forward_seconds():.2g} s, its share of the reward included",
    }
    return Advice(
        found,
        strength=tilt.strength,
        budget=budget,
        tolerance=tolerance,
        ess=pilot.ess,
        samples=samples,
        facts=facts,
        skipped=skipped,
    )


def _try_all(study: Study, progress: Update | None) -> tuple[list[Row], dict[str, str]]:
    """A row of each method that can run, and why others cannot."""
    found: list[Row] = []
    skipped: dict[str, str] = {}
    every = list(candidates(study.policy, study.tilt, study.pilot))
    for done, (name, estimate) in enumerate(every):
        if progress is not None:
            progress(done, len(every), {})
        try:
            found.append(estimate(study))
        except NotFiniteError as error:
            skipped[name] = str(error)
        except RewardError:
            raise
        except (ValueError, NotImplementedError) as error:
            skipped[name] = str(error)
    if progress is not None:
        progress(len(every), len(every), {})
    return found, skipped


def _check_condition(condition: Any) -> None:
    if condition is not None and (rows := count_rows(condition)) not in (None, 1):
        raise ValueError(f"condition must be one for all samples, got {rows} of them")
