"""How near each model comes to the distribution that a run aims at, where it can be sampled.

A reference has `sample(n, generator)`, states (n, *E). It may have `log_density(states)` up to a
constant, by which samples of a model are weighed, `observables`, callables by name from decoded
samples to numbers (n, ...) whose distributions are compared, and `compare`, from decoded samples to
further distances by name. One that is a list under the run's tilt has all of its `states` (N, *E),
their `rewards` and `weights` (N,), so that means under it are exact.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.jump_likelihood import sample_with_jump_density
from alignflow.likelihood import sample_with_density
from alignflow.metrics import (
    Estimate,
    cluster_wasserstein,
    effective_sample_size,
    mean,
    reweighted_mean,
    sliced_wasserstein,
)
from alignflow.results import Histogram, ReferenceResult, WeighedResult

from .context import Context
from .judging import decoded, joined

__all__ = ["NAME", "against_reference"]

NAME = "reference"
BINS = 40
ALIGNED = 500  # clusters that are aligned with each other, at a cost that is quadratic
TOLERANCE = 1e-3  # of weighed ODEs, whose log-densities are then good to a few hundredths
TAILS = (0.005, 0.995)  # quantiles of all that is shown, beyond which the outermost bins reach


def against_reference(
    context: Context, samples: dict[str, dict[str, Tensor]], models: dict[str, FlowMap]
) -> ReferenceResult | None:
    """Distances to the reference, histograms beside it, and weights of models under its density.

    Args:
        context: Of the run.
        samples: `state` (n, *E) and `reward` (n,) by model.
        models: Those of them that have an ODE.

    Returns:
        What the result records, or None if the run has no reference.
    """
    if context.reference is None:
        return None
    count = context.config.evaluation.samples
    drawn = context.reference.sample(2 * count, generator=context.sample_generator(0))
    judge = _seen(context, drawn[:count])
    # as many others of the reference show what the distances are at best
    seen = {NAME: _seen(context, drawn[count:])}
    for name, found in samples.items():
        seen[name] = _seen(context, found["state"][:count], found["reward"][:count])
    drawings = [drawn[count:], *(found["state"][:count] for found in samples.values())]
    weighs = models if context.config.evaluation.weighed else {}
    return ReferenceResult(
        mean_reward=mean(judge["reward"][:, 0]),
        distances={
            name: _distances(context, found, judge) | _further(context, states)
            for (name, found), states in zip(seen.items(), drawings, strict=True)
        },
        histograms={
            what: _histogram({name: found[what] for name, found in seen.items()})
            for what in judge
            if judge[what].shape[1] == 1
        },
        weighed={name: _weighed(context, model, judge) for name, model in weighs.items()},
    )


def _seen(context: Context, states: Tensor, reward: Tensor | None = None) -> dict[str, Tensor]:
    """What is compared of states: themselves, or the clusters (n, N, D) they are, their rewards and
    observables (n, 1)."""
    calls: dict[str, Callable[[Any], Tensor]] = getattr(context.reference, "observables", {})
    whole = joined(decoded(context, states))
    if reward is None:
        reward = context.reward.score(states, None, context.policy.decode)
    is_cluster = isinstance(whole, Tensor) and whole.ndim == 3
    first = {"cluster": whole} if is_cluster else {"state": states.flatten(1)}
    observed = {name: call(whole).reshape(-1, 1) for name, call in calls.items()}
    return first | {"reward": reward[:, None].cpu()} | observed


def _distances(
    context: Context, found: dict[str, Tensor], judge: dict[str, Tensor]
) -> dict[str, Estimate]:
    measured = {}
    for what, values in found.items():
        if what == "cluster":
            n = min(len(values), len(judge[what]), ALIGNED)
            distance = cluster_wasserstein(values[:n], judge[what][:n])
        else:
            projections = 1 if values.shape[1] == 1 else 128
            generator = context.sample_generator(0)
            distance = sliced_wasserstein(values, judge[what], projections, generator)
        measured[what] = distance
    return measured


def _further(context: Context, states: Tensor) -> dict[str, Estimate]:
    """Distances by the reference's own `compare`."""
    compare = getattr(context.reference, "compare", None)
    return {} if compare is None else compare(joined(decoded(context, states)))


def _histogram(found: dict[str, Tensor]) -> Histogram:
    values = {name: column.double().flatten().numpy() for name, column in found.items()}
    low, high = np.quantile(np.concatenate(list(values.values())), TAILS)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    fractions = {
        name: (np.histogram(column.clip(edges[0], edges[-1]), edges)[0] / len(column)).tolist()
        for name, column in values.items()
    }
    return Histogram(edges.tolist(), fractions)


def _weighed(context: Context, model: FlowMap, judge: dict[str, Tensor]) -> WeighedResult:
    """Samples by the ODE, or by jumps: as they are, and weighed by the ratio of densities."""
    settings = context.config.evaluation
    steps, drawn, log_weights = settings.get("weighed_steps"), [], []
    for batch, start in enumerate(range(0, settings.weighed, settings.batch_size)):
        n = min(settings.batch_size, settings.weighed - start)
        generator = context.sample_generator(batch)
        if steps is None:
            states, density = sample_with_density(model, n, generator, tolerance=TOLERANCE)
        else:
            states, density = sample_with_jump_density(model, n, generator, steps=steps)
        drawn.append(states)
        log_weights.append(context.reference.log_density(states) - density.double())
    found, log_weight = _seen(context, torch.cat(drawn)), torch.cat(log_weights)
    rewards = found["reward"][:, 0]
    return WeighedResult(
        n=settings.weighed,
        mean_reward=mean(rewards),
        distances=_distances(context, found, judge),
        ess_fraction=effective_sample_size(log_weight).item() / settings.weighed,
        weighed_reward=reweighted_mean(rewards, log_weight),
        steps=steps,
    )
