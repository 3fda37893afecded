"""What a run did, in sentences: the headline, and what to read with care.

A method that overshoots the exact tilt, or falls short of it, is said to, by the rule of the run's
verdict (`alignflow.metrics.verdict`). Any other difference counts as one only if it is larger than
its 95% interval.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from alignflow.metrics import Estimate, Interval
from alignflow.metrics.estimate import Z
from alignflow.metrics.verdict import agreement_bound
from alignflow.results import ModelResult

from .run_folder import Run

__all__ = [
    "cautions",
    "headline",
    "line",
    "listed",
    "outcomes",
    "percent",
    "plain",
    "rate_with_error",
    "short_name",
    "subject",
    "targets",
    "use_of_tuned",
    "verdicts",
    "with_error",
]

FEW_SAMPLES = 100  # an effective sample size below this says little about a rate
SIDE_EFFECT = 0.03  # a rate beside the target that misses the tilt by less is not mentioned


def line(run: Run) -> str:
    """The outcome in one line: what was measured, from what to what, and the exact tilt's."""
    before = _shown(_outcome(run, run.base), run)
    what = _target(run)
    start = f"Reward {plain(run.reward_name)}" if what is None else f"With {plain(what)}"
    ends = [f"{_shown(_outcome(run, m), run)} {_method(m.name)}" for m in run.aligned]
    outcome = f"{start}: {before}" + (f" → {', '.join(ends)}" if ends else ", nothing was aligned")
    tilted = _tilted_outcome(run)
    return outcome if tilted is None else f"{outcome}; exact tilt {_shown(tilted, run)}"


def headline(run: Run) -> str:
    """One sentence: which reward, which methods, what they did, against what, and at what cost."""
    if not run.aligned:
        base = _shown(_outcome(run, run.base), run)
        return f"Nothing was aligned: the base model’s {subject(run)} is {base}."
    sentence = f"{_what_happened(run)}{_against_tilt(run)}"
    cost = _cost(run)
    return f"{sentence}, at {cost}." if cost else f"{sentence}."


def targets(run: Run) -> list[str]:
    """Attributes that the reward's name speaks of, by whole words: "what" speaks of no hat."""
    words = f" {plain(re.sub(r'[^0-9A-Za-z]+', ' ', run.reward_name)).lower()} "
    return [name for name in run.base.rates if f" {plain(name).lower()} " in words]


def cautions(run: Run) -> list[str]:
    """Sentences on what the headline number does not show; empty if nothing stands out."""
    found = []
    for model in run.aligned:
        name = short_name(model.name)
        if change := _fall(run.base.diversity, model.diversity):
            found.append(f"Diversity fell {change} under {name}.")
        for held_out, after in model.held_out.items():
            if change := _fall(run.base.held_out.get(held_out), after):
                found.append(f"The held-out reward {plain(held_out)} fell {change} under {name}.")
        found += _side_effect(run, model)
    if run.tilt is not None and (run.tilt.ess or FEW_SAMPLES) < FEW_SAMPLES:
        found.append(
            f"The exact tilt is estimated from an effective sample of {run.tilt.ess:.0f}, "
            "so its numbers are rough."
        )
    return found


def verdicts(run: Run) -> list[tuple[str, str]]:
    """Whether each aligned model reached the tilt: its name, and a sentence."""
    return [(model.name, model.tilt_check.verdict) for model in run.aligned if model.tilt_check]


def plain(name: str) -> str:
    """A key as people would write it: long_hair is long hair."""
    return " ".join(name.replace("_", " ").split())


def short_name(name: str) -> str:
    """A model as a sentence names it: "steered: lookahead" is lookahead steering."""
    kind, _, method = name.partition(": ")
    noun = {"steered": "steering", "tuned": "tuning"}.get(kind)
    return f"{plain(method)} {noun}" if noun and method else f"the {name} model"


def _method(name: str) -> str:
    """The method of a model: "steered: lookahead" is by lookahead."""
    return plain(name.partition(": ")[2] or name)


def use_of_tuned(run: Run) -> str | None:
    """Python that loads the tuned model and samples it, from where the report is written."""
    if run.tuned is None:
        return None
    folder = run.tuned.folder
    if folder.resolve().is_relative_to(Path.cwd()):
        folder = folder.resolve().relative_to(Path.cwd())
    module = "" if run.tuned.network else ", module=MyNet()"
    load = f"policy = af.load({json.dumps(str(folder))}{module})"
    comment = "" if run.tuned.network else "  # the network that was tuned, as you built it"
    strength = f", strength={run.strength:g}" if run.strengths else ""
    return f"import alignflow as af\n\n{load}{comment}\nsamples = policy.sample(64{strength})"


def percent(value: float) -> str:
    """A fraction as a percentage, with one decimal."""
    return f"{100 * value:.1f}%"


def rate_with_error(rate: Interval) -> str:
    """A rate in percent and its standard error, by the half of its 95% interval."""
    error = 100 * rate.half_width / Z
    value = f"{100 * rate.value:.1f}"
    return f"{value} ± {error:.1f}" if error else value


def with_error(estimate: Estimate) -> str:
    """A value and its standard error, to the two digits that the error is known to."""
    value, error = estimate.value, estimate.standard_error
    if error == 0:
        return f"{value:.4g}"
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 8)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def listed(items: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def outcomes(run: Run) -> list[tuple[str, str, str]]:
    """What the headline compares, as (name, value, remark): the models, then the exact tilt."""
    tilted = _tilted_outcome(run)
    rows = [(run.base.name, _shown(_outcome(run, run.base), run), "before alignment")]
    for model in run.aligned:
        remark = "after alignment"
        if tilted is not None:
            remark = _against(model, tilted, run)
        rows.append((model.name, _shown(_outcome(run, model), run), remark))
    if tilted is not None and run.tilt is not None:
        rows.append((run.tilt.name, _shown(tilted, run), "what an exact method would give"))
    return rows


def _target(run: Run) -> str | None:
    """The one attribute the headline can speak of: the target, if all models were judged on it."""
    named = [name for name in targets(run) if all(name in model.rates for model in run.models)]
    return named[0] if len(named) == 1 else None


def _outcome(run: Run, model: ModelResult) -> Interval:
    target = _target(run)
    return model.mean_reward.interval if target is None else model.rates[target]


def _tilted_outcome(run: Run) -> Interval | None:
    if run.tilt is None:
        return None
    target = _target(run)
    return run.tilt.mean_reward.interval if target is None else run.tilt.rates.get(target)


def subject(run: Run) -> str:
    """What the headline compares: the target attribute's rate, or the mean reward."""
    target = _target(run)
    return "mean reward" if target is None else f"fraction of samples with {plain(target)}"


def _shown(outcome: Interval, run: Run) -> str:
    return f"{outcome.value:.3g}" if _target(run) is None else percent(outcome.value)


def _what_happened(run: Run) -> str:
    before = _outcome(run, run.base)
    after = [(_outcome(run, model), short_name(model.name)) for model in run.aligned]
    signs = {_sign(value, before) for value, _ in after}
    verb = {1: "raised", -1: "lowered", 0: "did not clearly change"}
    did = verb[signs.pop()] if len(signs) == 1 else "moved"
    ends = listed([f"to {_shown(value, run)} by {name}" for value, name in after])
    # a method without a tilt's strength is recorded at 0
    start = f"At strength {run.strength:g}, the" if run.strength else "The"
    ends = f"from {_shown(before, run)} {ends}"
    return f"{start} reward {run.reward_name} {did} the {subject(run)}, {ends}"


def _against_tilt(run: Run) -> str:
    tilted = _tilted_outcome(run)
    if tilted is None:
        return "; no exact tilt is known to compare with"
    clauses = [f"{short_name(m.name)} {_against(m, tilted, run)}" for m in run.aligned]
    return f"; against the exact tilt’s {_shown(tilted, run)}, {listed(clauses)}"


def _against(model: ModelResult, tilted: Interval, run: Run) -> str:
    """Whether a model hit the exact tilt, seen from the base."""
    if model.tilt_check is not None and model.tilt_check.reached is None:
        return "cannot be told from it by so few effective samples of the base"
    base, outcome = _outcome(run, run.base), _outcome(run, model)
    gap, direction = outcome.value - tilted.value, _sign(tilted, base)
    agrees, error = _agreement(model, _target(run), outcome, tilted)
    unit = "" if _target(run) is None else " points"
    amount = f"{_digits(gap, run)}{unit}"
    if agrees:
        sign = "+" if gap >= 0 else "−"
        return f"agrees within the error ({sign}{_digits(gap, run)} ± {_digits(error, run)}{unit})"
    if direction == 0:
        return f"lands {amount} {'above' if gap > 0 else 'below'}"
    if gap * direction > 0:
        return f"overshoots by {amount}"
    wrong_way = _sign(outcome, base) == -direction
    return f"moves the wrong way and misses by {amount}" if wrong_way else f"falls {amount} short"


def _agreement(
    model: ModelResult, label: str | None, outcome: Interval, tilted: Interval
) -> tuple[bool, float]:
    """Whether a model's rate of a label, or else its mean reward, is that of the exact tilt within
    the error, and this error: by the run's verdict, and of older runs, which have none, by 95%."""
    check = model.tilt_check
    found = None if check is None else check.numbers.get("reward" if label is None else label)
    if check is None or found is None:
        error = math.hypot(outcome.half_width, tilted.half_width)
        return _sign(outcome, tilted) == 0, error
    bound = agreement_bound(check)
    error = math.hypot(found.samples.standard_error, found.tilt.standard_error)
    return abs(found.z) <= bound, bound * error


def _digits(gap: float, run: Run) -> str:
    return f"{abs(gap):.2g}" if _target(run) is None else f"{100 * abs(gap):.1f}"


def _cost(run: Run) -> str:
    passes = [model.cost.get("nfe") for model in run.models]
    if None in passes:
        return ""
    base, *aligned = (f"{count:g}" for count in passes)
    return f"{listed(aligned)} network passes a sample (base: {base})"


def _side_effect(run: Run, model: ModelResult) -> list[str]:
    """The attribute beside the target that misses its exact rate by most, if it clearly does."""
    if run.tilt is None:
        return []
    beside = [
        (abs(rate.value - run.tilt.rates[name].value), name)
        for name, rate in model.rates.items()
        if name in run.tilt.rates and name not in targets(run)
        if not _agreement(model, name, rate, run.tilt.rates[name])[0]
    ]
    gap, name = max(beside, default=(0.0, ""))
    if gap < SIDE_EFFECT:
        return []
    rate, exact = percent(model.rates[name].value), percent(run.tilt.rates[name].value)
    who = short_name(model.name)
    what = f"leaves {plain(name)} at {rate}, where the exact tilt has {exact}"
    return [f"{who[0].upper()}{who[1:]} {what}."]


def _sign(a: Interval, b: Interval) -> int:
    """+1 or -1 if a is above or below b by more than the 95% interval of the difference, else 0."""
    if abs(a.value - b.value) <= math.hypot(a.half_width, b.half_width):
        return 0
    return 1 if a.value > b.value else -1


def _fall(before: Estimate | None, after: Estimate | None) -> str:
    """From what to what an estimate fell beyond its error, in words; empty if it did not."""
    if before is None or after is None or _sign(after.interval, before.interval) >= 0:
        return ""
    return f"from {with_error(before)} to {with_error(after)}"
