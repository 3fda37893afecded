"""`advise`: which method reaches a tilt within a budget of forwards, by a pilot."""

from collections.abc import Callable
from typing import Any

import torch

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.progress import Update, watched
from alignflow.reward_module import NotFiniteError, Reward, RewardError
from alignflow.tilt import DefaultStrength, Tilt, as_tilt
from alignflow.values import ValueFunction

from .advice import FEW, Advice
from .candidates import candidates
from .checking import check_cheapest
from .study import Study

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
    value: ValueFunction | None = None,
    guidance: float = 1.0,
    micro_batch_size: int | None = None,
    generator: torch.Generator | int | None = None,
    progress: Update | None = None,
) -> Advice:
    """What each method would cost to reach a tilt of this model, and the cheapest that does.

    A pilot scores samples of the base. Where the cost of a method follows from their weights it is
    computed, and otherwise foretold by short runs within the budget; the cheapest is then checked
    by a run of its own. Formulas and sources are in `alignflow.steering.advising`, `formulas`,
    `candidates` and `checking`.

    Args:
        policy: The model.
        reward: A tilt, a reward, or any callable as a black box.
        strength: lambda of the tilt, of a reward without one.
        budget: The most forwards of the network a sample; a gradient counts as two.
        condition: One for all samples.
        jumps: Of the flow map from noise to a sample of the base.
        tolerance: Distance to the tilt that counts as reached: the largest error of a probability
            P(r > c) that the reward is above some level.
        samples: Of the base that the pilot scores, and of a check; short runs are of a quarter as
            many.
        value: A learned value; with one, guidance by it is a method too.
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
    study = Study(
        policy,
        as_tilt(reward, strength),
        budget,
        condition=condition,
        jumps=jumps,
        tolerance=tolerance,
        samples=samples,
        value=value,
        guidance=guidance,
        micro_batch_size=micro_batch_size,
        generator=generator,
    )
    skipped = _estimate_all(study, progress)
    return Advice(
        check_cheapest(study) if study.pilot.ess >= FEW else study.rows,
        strength=study.tilt.strength,
        budget=study.budget,
        tolerance=study.tolerance,
        ess=study.pilot.ess,
        samples=study.samples,
        facts=_facts(study),
        skipped=skipped,
    )


def _estimate_all(study: Study, progress: Update | None) -> dict[str, str]:
    """Give the study a row of each method that can run; why others cannot, by name."""
    skipped: dict[str, str] = {}
    every = list(candidates(study))
    # the last one is the check
    for done, (name, estimate) in enumerate(every):
        if progress is not None:
            progress(done, len(every) + 1, {})
        try:
            study.rows.append(estimate(study))
        except NotFiniteError as error:
            skipped[name] = str(error)
        except RewardError:
            raise
        except (ValueError, NotImplementedError) as error:
            skipped[name] = str(error)
    if progress is not None:
        progress(len(every), len(every) + 1, {})
    return skipped


def _facts(study: Study) -> dict[str, str]:
    """What the pilot found, by name."""
    pilot = study.pilot
    mean, tilted = pilot.mean_rewards()
    return {
        "effective size of the pilot": f"{pilot.ess:.0f} of {len(pilot.rewards)}",
        "mean reward": f"{mean} of the base, {tilted:.4g} of the tilt",
        "gradient of the reward": "known" if study.tilt.reward.differentiable else "none",
        "stochastic map": "there is one" if study.policy.has_posterior_flow else "none",
        "a forward": f"{pilot.forward_seconds():.2g} s, its part of the reward included",
    }
