"""The evaluate stage: every model of a run judged alike, beside the exact tilt of the base."""

from typing import Any

import torch
from torch import Tensor

from alignflow.checkpoint import save_folder
from alignflow.flow_map import FlowMap
from alignflow.metrics import (
    Estimate,
    diversity,
    frechet_distance,
    mean,
    sliced_wasserstein,
    wilson_interval,
)
from alignflow.results import EvaluationResult, Event, ModelResult, StrengthResult
from alignflow.tilt import Tilt

from .auto import method_name
from .context import Context
from .episodes import save_episodes
from .exact_tilt import Drawn, ExactTilt, exact_tilt
from .judging import Verdict, decoded, joined, judge_samples
from .reference import against_reference
from .sampling import (
    COSTS,
    build_beside,
    build_steerer,
    sample_model,
    sample_steered,
    valid_rewards,
)
from .texts import save_texts

__all__ = ["evaluate_stage"]

BASE = "base"
SHOWN = 64  # samples saved to be looked at
PAIRED = 2048  # samples whose pairs are compared, at a cost that is quadratic


def evaluate_stage(context: Context) -> EvaluationResult:
    """Judge the base, the steered samples and the tuned model, and save some samples of each."""
    models = _models(context)
    samples = _draw(context, models)
    verdicts = {name: judge_samples(context, drawn["state"]) for name, drawn in samples.items()}
    save_episodes(context, models)
    has_method = any(context.config.get(part) for part in ("steerer", "beside", "finetuner"))
    base = samples[BASE], verdicts[BASE]
    exact = exact_tilt(context, context.tilt, *base) if has_method else None
    return EvaluationResult(
        models=[_model(context, name, samples, verdicts, exact) for name in samples],
        tilt=None if exact is None else exact.result,
        reference=against_reference(context, samples, models),
        reward_name=context.reward.name,
        strength=0.0 if exact is None else context.tilt.strength,
        event=_save_some(context, samples),
        strengths=_at_strengths(context, *base),
    )


def _models(context: Context) -> dict[str, FlowMap]:
    """The base and, if there is one, the tuned model, by name."""
    tuned: Any = context.model("finetune")
    if tuned is None:
        return {BASE: context.policy}
    if context.strengths is not None:
        tuned = tuned.at_strength(context.tilt.strength)
    return {BASE: context.policy, _tuned(context): tuned}


def _tuned(context: Context) -> str:
    return f"tuned: {context.config.finetuner.method}"


def _draw(context: Context, models: dict[str, FlowMap]) -> dict[str, Drawn]:
    """Samples of each model and steerer; the first ones of all are from the same noise."""
    settings, folder = context.config.evaluation, context.folder.stage("evaluate")
    samples = {}
    for name, model in models.items():
        kind = name.partition(":")[0]
        n = settings.base_samples if name == BASE else settings.samples
        samples[name] = sample_model(context, model, n, folder / kind, f"sample the {kind}")
        if name == BASE and "steer" in context.config.stages:
            steered = sample_steered(context, build_steerer(context, context.policy, context.value))
            samples[f"steered: {method_name(context)}"] = steered
        if name == BASE:
            for other, steerer in build_beside(context, context.policy).items():
                path = folder / "beside" / other
                samples[f"steered: {other}"] = sample_steered(context, steerer, path, other)
    return samples


def _at_strengths(context: Context, base: Drawn, base_verdict: Verdict) -> list[StrengthResult]:
    """A model tuned for a range, judged at several strengths of it, each beside its own tilt."""
    if context.strengths is None:
        return []
    tuned: Any = context.model("finetune")
    n, folder = context.config.evaluation.samples, context.folder.stage("evaluate")
    found = []
    for number, strength in enumerate(context.judged_strengths):
        name = f"{_tuned(context)}, strength {strength:g}"
        model, place = tuned.at_strength(strength), folder / f"tuned-{number}"
        drawn = sample_model(context, model, n, place, f"sample at strength {strength:g}")
        samples = {BASE: base, name: drawn}
        verdicts = {BASE: base_verdict, name: judge_samples(context, drawn["state"])}
        exact = exact_tilt(context, Tilt(context.reward, strength), base, base_verdict)
        judged = _model(context, name, samples, verdicts, exact)
        found.append(StrengthResult(strength=strength, model=judged))
    return found


def _model(
    context: Context,
    name: str,
    samples: dict[str, Drawn],
    verdicts: dict[str, Verdict],
    exact: ExactTilt | None,
) -> ModelResult:
    drawn, verdict = samples[name], verdicts[name]
    rewards = valid_rewards(drawn["reward"], name)
    base = samples[BASE], verdicts[BASE]
    return ModelResult(
        name=name,
        rewards=rewards.tolist(),
        mean_reward=mean(rewards),
        dropped=len(drawn["reward"]) - len(rewards),
        rates={
            label: wilson_interval(held.sum().item(), len(held))
            for label, held in verdict.held.items()
        },
        held_out=verdict.held_out,
        diversity=diversity(drawn["state"][:PAIRED]),
        distance_to_base={} if name == BASE else _distances(context, drawn, verdict, *base),
        cost={cost: drawn[cost].double().mean().item() for cost in COSTS},
        tilt_check=None if name == BASE or exact is None else exact.check(drawn, verdict),
    )


def _distances(
    context: Context, drawn: Drawn, verdict: Verdict, base: Drawn, base_verdict: Verdict
) -> dict[str, Estimate]:
    # the last samples of the base: others share their noise, which would bring them nearer
    last = slice(-len(drawn["state"]), None)
    generator = torch.Generator().manual_seed(context.config.seed)
    sliced = sliced_wasserstein(drawn["state"], base["state"][last], generator=generator)
    found = {"sliced_w2": sliced}
    if verdict.features is not None and base_verdict.features is not None:
        found["frechet_distance"] = frechet_distance(verdict.features, base_verdict.features[last])
    return found


def _save_some(context: Context, samples: dict[str, Drawn]) -> Event:
    """Save a few decoded samples of each model; what kind of thing they are."""
    count = min(SHOWN, *(len(drawn["state"]) for drawn in samples.values()))
    shown = {
        name: joined(decoded(context, drawn["state"][:count])) for name, drawn in samples.items()
    }
    first, folder = shown[BASE], context.folder.stage("evaluate")
    if not isinstance(first, Tensor):
        rewards = {name: drawn["reward"][:count] for name, drawn in samples.items()}
        save_texts(context, shown, rewards)
        return "other"
    # what a model makes is shown, whatever it is
    save_folder(folder / "samples", shown, {}, allow_nonfinite=True)
    if first.ndim == 4 and first.shape[1] in (1, 3):
        return "image"
    return "points" if first.shape[1:] == (2,) else "other"
