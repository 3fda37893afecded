"""One call that judges samples: reward, diversity, distances to a reference, and judges."""

import io
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import check_rows, rows_of
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.html_table import html_table
from alignflow.modes import frozen
from alignflow.reward_module import Reward, as_reward, own_copy

from .distances import frechet_distance, sliced_wasserstein
from .estimate import Estimate, mean
from .names import current
from .pairwise import diversity, energy_distance, mmd

__all__ = ["Evaluation", "evaluate"]

DISTANCES = ("sliced_w2", "mmd", "energy_distance")
MEASURES = ("samples", "reward", "diversity", *DISTANCES, "frechet_distance")
"""Names that no judge may have."""
PAIRS = 2048
"""Samples in statistics over all pairs, whose cost is quadratic."""


class Evaluation(dict[str, Estimate]):
    """Estimates by name, with the number of samples behind them; prints as a table.

    A name of an earlier version leads to the present one.
    """

    def __init__(self, estimates: Mapping[str, Estimate], count: int):
        super().__init__(estimates)
        self.count = count

    def __missing__(self, name: str) -> Estimate:
        present = current(name)
        if present not in self:
            raise KeyError(name)
        return self[present]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: `samples`, and name to value and standard error."""
        rows = {
            name: {"value": estimate.value, "standard_error": estimate.standard_error}
            for name, estimate in self.items()
        }
        return {"samples": self.count, **rows}

    def __rich__(self):
        from rich.table import Table

        table = Table(title=f"{self.count} samples")
        table.add_column("measure")
        table.add_column("value", justify="right")
        table.add_column("standard error", justify="right")
        for name, estimate in self.items():
            table.add_row(name, f"{estimate.value:.4g}", f"{estimate.standard_error:.2g}")
        return table

    def _repr_html_(self) -> str:
        rows = ((name, f"{e.value:.4g}", f"{e.standard_error:.2g}") for name, e in self.items())
        return html_table(f"{self.count} samples", ("measure", "value", "standard error"), rows)

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=100).print(self)
        return out.getvalue().rstrip()


@checks.refuse_seed
def evaluate(
    samples: Any,
    reward: Reward | Callable | Mapping[str, Reward | Callable] | None = None,
    reference: Any = None,
    judges: Mapping[str, Callable[[Any], Any]] | None = None,
    condition: Any = None,
    decode: Callable[[Tensor], Any] | None = None,
    features: Callable[[Any], Tensor] | None = None,
    batch_size: int = 1024,
    generator: torch.Generator | int | None = None,
) -> Evaluation:
    """Judge samples, each number with its standard error.

    Modules run in evaluation mode, and are left in their own.

    Args:
        samples: States (N, *E), as a tensor, an array or the `state` of a TensorDict.
        reward: What was aligned to, or several by name: `reward`, `reward_<name>`.
        reference: States (M, *E), or a model or another source with `sample(n, generator=...)`, of
            which as many as the samples are drawn: `sliced_w2`, `mmd` (squared) and
            `energy_distance` to it.
        judges: By name, from decoded samples to (N,) or (N, A) numbers whose means are reported as
            `<name>`, or `<name>_<a>` with a from the judge's `names` or `labels` where it has them.
        condition: Of the samples, one for all or N of them; rewards and the reference get it.
        decode: From states to what rewards and judges see; by default the reference model's.
        features: From decoded samples to (N, F): adds `frechet_distance` to the reference.
        batch_size: Samples decoded and scored at a time.
        generator: Source of the reference's samples and of the random directions, or its seed.

    Raises:
        ValueError: If the samples are no batch of finite states, a judge's name is another
            measure's, or a judge does not answer with one finite number, or row, a sample.
        RewardError: If a reward fails; see `Reward`.
    """
    states, generator = _states("samples", samples), checks.as_generator(generator)
    if decode is None:
        decode = reference.decode if isinstance(reference, FlowMap) else _identity
    # what a judge writes into is its own copy, as it is for a reward
    seen = lambda part: own_copy(decode(part))  # noqa: E731
    for name, call in (("decode", decode), ("features", features)):
        if call is not None and not callable(call):
            raise ValueError(f"{name} must be a callable, got {checks.shown(call)}")
    rewards, judges = _rewards(reward), _judges(judges)
    chunks = _chunks(states, condition, checks.count("batch_size", batch_size))
    given = [part for part in (reference, features, *judges.values()) if _is_module(part)]
    found: dict[str, Estimate] = {}
    with torch.no_grad(), frozen(*given):
        for name, term in rewards.items():
            scores = [term.score(part, its, decode) for part, its in chunks]
            found[name] = mean(torch.cat(scores))
        for name, judge in judges.items():
            verdicts = torch.cat([_verdict(name, judge(seen(x)), len(x)) for x, _ in chunks])
            for column, estimate in _columns(name, judge, verdicts).items():
                if column in found or column in MEASURES:
                    raise ValueError(_taken(name, column))
                found[column] = estimate
        found["diversity"] = diversity(_thinned(states))
        if reference is not None:
            others = _reference(reference, chunks, generator).to(states)
            found |= _distances(states, others, generator)
            if features is not None:
                x, y = (
                    torch.cat([features(seen(part)) for part in side.split(batch_size)])
                    for side in (states, others)
                )
                found["frechet_distance"] = frechet_distance(x, y)
    return Evaluation(found, len(states))


def _states(name: str, samples: Any) -> Tensor:
    states = samples
    if isinstance(samples, TensorDictBase):
        states = samples.get("state", samples.get("data", None))
    states = torch.as_tensor(states) if isinstance(states, np.ndarray) else states
    if not isinstance(states, Tensor) or states.ndim < 2 or len(states) < 2:
        raise ValueError(f"{name} must be states (N, *E), N >= 2, got {checks.shown(samples)}")
    if not states.is_floating_point():
        raise ValueError(f"{name} must be floats, got {states.dtype}: images lie in [-1, 1]")
    if not torch.isfinite(states).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity among them")
    return states.detach()


def _chunks(states: Tensor, condition: Any, size: int) -> list[tuple[Tensor, Any]]:
    """The states so many at a time, each part with its own rows of the condition."""
    n = len(states)
    check_rows(condition, n)
    rows = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    return [(states[part], rows_of(condition, part, n)) for part in rows]


def _rewards(reward) -> dict[str, Reward]:
    if reward is None:
        return {}
    if isinstance(reward, Mapping):
        return {f"reward_{name}": as_reward(term) for name, term in reward.items()}
    return {"reward": as_reward(reward)}


def _judges(judges: Any) -> dict[str, Any]:
    if not isinstance(judges, Mapping | None):
        raise ValueError(f"judges must be a mapping, {{name: judge}}, got {checks.shown(judges)}")
    for name, judge in (judges or {}).items():
        if not callable(judge):
            raise ValueError(f"judge {name!r} must be callable, got {checks.shown(judge)}")
        if name in MEASURES:
            raise ValueError(_taken(name, name))
    return dict(judges or {})


def _taken(judge: str, column: str) -> str:
    return f"judge {judge!r} would replace the measure {column!r}: give it another name"


def _verdict(name: str, answer: Any, n: int) -> Tensor:
    """What a judge answered for n samples, (n,) or (n, A), refused unless it is finite."""
    try:
        verdict = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"judge {name!r} must answer with numbers, got {checks.shown(answer)}"
        ) from error
    if verdict.ndim not in (1, 2) or len(verdict) != n or verdict.is_complex():
        raise ValueError(
            f"judge {name!r} must answer {n} samples with numbers ({n},) or ({n}, A), "
            f"got {checks.shown(verdict)}"
        )
    invalid = (~torch.isfinite(verdict)).reshape(n, -1).any(1).nonzero().flatten().tolist()
    if invalid:
        raise ValueError(f"judge {name!r} is NaN or infinite for {len(invalid)} of {n} samples")
    return verdict


def _columns(name: str, judge, verdicts: Tensor) -> dict[str, Estimate]:
    if verdicts.ndim == 1:
        return {name: mean(verdicts)}
    titles = getattr(judge, "names", getattr(judge, "labels", range(verdicts.shape[1])))
    if len(titles) != verdicts.shape[1]:
        raise ValueError(
            f"judge {name!r} answers with {verdicts.shape[1]} numbers a sample and names "
            f"{len(titles)}: {', '.join(map(str, titles))}"
        )
    return {f"{name}_{title}": mean(verdicts[:, i]) for i, title in enumerate(titles)}


def _distances(states: Tensor, others: Tensor, generator) -> dict[str, Estimate]:
    x, y = _thinned(states), _thinned(others)
    found = (
        sliced_wasserstein(states, others, generator=generator),
        mmd(x, y),
        energy_distance(x, y),
    )
    return dict(zip(DISTANCES, found, strict=True))


def _reference(reference: Any, chunks: list[tuple[Tensor, Any]], generator) -> Tensor:
    if isinstance(reference, Tensor | TensorDictBase | np.ndarray):
        return _states("reference", reference)
    if isinstance(reference, FlowMap):
        draws = [
            reference.sample(len(part), condition=its, generator=generator) for part, its in chunks
        ]
        return torch.cat(draws)
    if not callable(getattr(reference, "sample", None)):
        check_flow_map("reference", reference)
    n = sum(len(part) for part, _ in chunks)
    return _states("reference", reference.sample(n, generator=generator))


def _thinned(states: Tensor) -> Tensor:
    """At most `PAIRS` of them, evenly spaced, so that ordered conditions are all kept."""
    rows = torch.linspace(0, len(states) - 1, min(PAIRS, len(states)), dtype=torch.float64)
    return states[rows.round().long().to(states.device)]


def _is_module(part: Any) -> TypeGuard[nn.Module]:
    return isinstance(part, nn.Module)


def _identity(x: Tensor) -> Tensor:
    return x
