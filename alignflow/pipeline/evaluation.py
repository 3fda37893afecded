"""The evaluate stage: every model of a run judged alike, beside the exact tilt of the base."""

from typing import Any

import torch
from torch import Tensor

from alignflow.checkpoint import save_folder
from alignflow.flow_map import FlowMap
from alignflow.metrics import (
    diversity,
    effective_sample_size,
    frechet_distance,
    mean,
    sliced_wasserstein,
)
from alignflow.reward_module import log_tilt

from .checks import tilt_strength
from .context import Context
from .episodes import keep_episodes
from .judging import Verdict, decoded, judge_samples
from .reference import against_reference
from .sampling import COSTS, build_steerer, sample_model, sample_steered
from .tilt import interval, kept_rewards, pair, reweighted_mean, share

__all__ = ["evaluate_stage"]

BASE = "base"
SHOWN = 64  # samples kept to be looked at
PAIRED = 2048  # samples whose pairs are compared, at a cost that is quadratic

Drawn = dict[str, Tensor]


def evaluate_stage(context: Context) -> dict[str, Any]:
    """Judge the base, the steered samples and the tuned model, and keep some samples of each."""
    models = _models(context)
    samples = _draw(context, models)
    verdicts = {name: judge_samples(context, drawn["state"]) for name, drawn in samples.items()}
    base, strength = samples[BASE], tilt_strength(context.config)
    event = _keep_some(context, samples)
    keep_episodes(context, models)
    return {
        "models": [
            _model(name, drawn, verdicts[name])
            | {
                "distance_to_base": {}
                if drawn is base
                else _distances(context, drawn, verdicts[name], base, verdicts[BASE])
            }
            for name, drawn in samples.items()
        ],
        "tilt": None if strength is None else _tilt(base["reward"], verdicts[BASE].held, strength),
        "reference": against_reference(context, samples, models),
        "reward_name": context.reward.name,
        "strength": strength or 0.0,
        "event": event,
    }


def _models(context: Context) -> dict[str, FlowMap]:
    """The base and, if there is one, the tuned model, by name."""
    tuned = context.model("finetune")
    found = {} if tuned is None else {f"tuned: {context.config.finetuner.method}": tuned}
    return {BASE: context.policy, **found}


def _draw(context: Context, models: dict[str, FlowMap]) -> dict[str, Drawn]:
    """Samples of each model and of the steerer; the first ones of all are from the same noise."""
    settings, folder = context.config.evaluation, context.folder.stage("evaluate")
    samples = {}
    for name, model in models.items():
        kind = name.partition(":")[0]
        n = settings.base_samples if name == BASE else settings.samples
        samples[name] = sample_model(context, model, n, folder / kind, f"sample the {kind}")
        if name == BASE and "steer" in context.config.stages:
            steered = sample_steered(context, build_steerer(context))
            samples[f"steered: {context.config.steerer.method}"] = steered
    return samples


def _model(name: str, drawn: Drawn, verdict: Verdict) -> dict[str, Any]:
    rewards = kept_rewards(drawn["reward"], name)
    return {
        "name": name,
        "rewards": rewards.tolist(),
        "dropped": len(drawn["reward"]) - len(rewards),
        "rates": {
            label: share(held.sum().item(), len(held)) for label, held in verdict.held.items()
        },
        "mean_reward": pair(mean(rewards)),
        "held_out": {key: pair(estimate) for key, estimate in verdict.held_out.items()},
        "diversity": pair(diversity(drawn["state"][:PAIRED])),
        "cost": {cost: drawn[cost].double().mean().item() for cost in COSTS},
    }


def _distances(
    context: Context, drawn: Drawn, verdict: Verdict, base: Drawn, base_verdict: Verdict
) -> dict[str, list[float]]:
    # the last samples of the base: others share their noise, which would bring them nearer
    last = slice(-len(drawn["state"]), None)
    generator = torch.Generator().manual_seed(context.config.seed)
    sliced = sliced_wasserstein(drawn["state"], base["state"][last], generator=generator)
    found = {"sliced_w2": pair(sliced)}
    if verdict.features is not None and base_verdict.features is not None:
        frechet = frechet_distance(verdict.features, base_verdict.features[last])
        found["frechet_distance"] = pair(frechet)
    return found


def _tilt(rewards: Tensor, held: dict[str, Tensor], strength: float) -> dict[str, Any]:
    rates = {label: reweighted_mean(values, rewards, strength) for label, values in held.items()}
    return {
        "name": "exact tilt",
        "rates": {label: interval(rate) for label, rate in rates.items()},
        "mean_reward": pair(reweighted_mean(rewards, rewards, strength)),
        "ess": effective_sample_size(log_tilt(rewards.double(), strength)).item(),
    }


def _keep_some(context: Context, samples: dict[str, Drawn]) -> str:
    """Keep a few decoded samples of each model; what kind of thing they are."""
    count = min(SHOWN, *(len(drawn["state"]) for drawn in samples.values()))
    shown = {
        name: [part for part in decoded(context, drawn["state"][:count])]
        for name, drawn in samples.items()
    }
    first = shown[BASE][0]
    if not isinstance(first, Tensor):
        return "other"
    kept = {name: torch.cat(parts) for name, parts in shown.items()}
    # what a model makes is shown, whatever it is
    save_folder(context.folder.stage("evaluate") / "samples", kept, {}, allow_nonfinite=True)
    if first.ndim == 4 and first.shape[1] in (1, 3):
        return "image"
    return "points" if first.shape[1:] == (2,) else "other"
