"""One measurement of a tuner: the tuned policy sampled in several numbers of steps."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from alignflow.cost import Meter, MeteredReward
from alignflow.finetuning import finetune
from alignflow.flow_map import FlowMap
from alignflow.ode import integrate

from .measure import Truth, reference_seed

__all__ = ["SAMPLED", "TUNING_COSTS", "measure_tuned", "sampled_name"]

SAMPLED = (1, 2, 4, 0)
"""Steps of the samples that are judged; 0 stands for the tuned model's ODE."""
TUNING_COSTS = ("tuning_reward_calls", "tuning_reward_vjps", "tuning_seconds")
TOLERANCE = 1e-4  # of the ODE
LATE = 0.999  # end of the ODE, and then the denoiser, where the velocity is 0/0 at time 1


def sampled_name(tuner: str, steps: int) -> str:
    """What tables call a tuner's samples."""
    return f"{tuner}, {f'{steps} step' + 's' * (steps > 1) if steps else 'ODE'}"


def measure_tuned(
    truth: Truth, options: Mapping[str, Any], seed: int
) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps, and distances and cost of the samples that one tuned policy gives in them."""
    case, meter = truth.case, Meter()
    start = time.perf_counter()
    try:
        tuned = finetune(
            case.policy,
            case.tilt.with_reward(MeteredReward(case.tilt.reward, meter)),
            generator=torch.Generator().manual_seed(seed),
            **options,
        )
    except FloatingPointError:
        yield from ((steps, truth.diverged) for steps in SAMPLED)
        return
    total = meter.total
    spent = (total.reward_calls, total.reward_vjps, time.perf_counter() - start)
    costs = dict(zip(TUNING_COSTS, spent, strict=True))
    for steps in SAMPLED:
        forwards = {"nfe": float(steps)} if steps else {}
        yield steps, _judged(truth, tuned, steps, seed) | forwards | costs


@torch.no_grad()
def _judged(truth: Truth, tuned: FlowMap, steps: int, seed: int) -> dict[str, float]:
    """Distances of a tuned policy's samples."""
    generator, n = torch.Generator().manual_seed(seed), truth.case.samples
    if steps:
        states = tuned.sample(n, steps, generator=generator)
    else:
        try:
            states = _by_ode(tuned, tuned.noise(n, generator))
        except FloatingPointError:
            return truth.diverged
    return truth.distances(states, reference_seed(seed))


def _by_ode(tuned: FlowMap, noise: Tensor) -> Tensor:
    if tuned.prediction.velocity_at_end:
        return integrate(tuned.velocity, noise, 0.0, 1.0, TOLERANCE)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return tuned.velocity(x, t.clamp(max=LATE))  # the solver looks beyond the end

    return tuned.denoiser(integrate(velocity, noise, 0.0, LATE, TOLERANCE), LATE)
