"""One call that judges samples: reward, diversity, distances to a reference, and judges."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.html_table import html_table
from alignflow.reward_module import Reward, as_reward

from .distances import frechet_distance, sliced_wasserstein
from .estimate import Estimate, mean
from .pairwise import diversity, energy_distance, mmd

__all__ = ["Evaluation", "evaluate"]

PAIRS = 2048
"""Samples in statistics over all pairs, whose cost is quadratic."""


class Evaluation(dict[str, Estimate]):
    """Estimates by name, with the number of samples behind them; prints as a table."""

    def __init__(self, estimates: Mapping[str, Estimate], count: int):
        super().__init__(estimates)
        self.count = count

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


def evaluate(
    samples: Tensor | TensorDictBase,
    reward: Reward | Callable | Mapping[str, Reward | Callable] | None = None,
    reference: Tensor | FlowMap | None = None,
    judges: Mapping[str, Callable[[Any], Tensor]] | None = None,
    condition=None,
    decode: Callable[[Tensor], Any] | None = None,
    features: Callable[[Any], Tensor] | None = None,
    batch_size: int = 1024,
    generator: torch.Generator | None = None,
) -> Evaluation:
    """Judge samples, each number with its standard error.

    Args:
        samples: States (N, *E), or a TensorDict that holds them under `state`.
        reward: What was aligned to, or several by name: `reward`, `reward_<name>`.
        reference: States (M, *E), or a model of which as many as the samples are drawn:
            `sliced_wasserstein`, `mmd` (squared) and `energy_distance` to it.
        judges: By name, from decoded samples to (N,) or (N, A) numbers whose means are reported as
            `<name>`, or `<name>_<a>` with a from the judge's `names` where it has them.
        condition: Of the samples, one for all or N of them; rewards and the reference get it.
        decode: From states to what rewards and judges see; by default the reference model's.
        features: From decoded samples to (N, F): adds `frechet_distance` to the reference.
        batch_size: Samples decoded and scored at a time.
        generator: Source of the reference's samples and of the random directions.

    Raises:
        ValueError: If the samples are no batch of finite states.
        RewardError: If a reward fails; see `Reward`.
    """
    states = _states(samples)
    if decode is None:
        decode = reference.decode if isinstance(reference, FlowMap) else _identity
    chunks = list(zip(states.split(batch_size), _split(condition, states, batch_size), strict=True))
    found: dict[str, Estimate] = {}
    with torch.no_grad():
        for name, term in _rewards(reward).items():
            scores = [term.score(part, given, decode) for part, given in chunks]
            found[name] = mean(torch.cat(scores))
        for name, judge in (judges or {}).items():
            verdicts = torch.cat([torch.as_tensor(judge(decode(part))) for part, _ in chunks])
            found |= _verdicts(name, judge, verdicts)
        found["diversity"] = diversity(_spread(states))
        if reference is not None:
            others = _reference(reference, chunks, generator).to(states)
            found |= _distances(states, others, generator)
            if features is not None:
                x, y = (
                    torch.cat([features(decode(part)) for part in side.split(batch_size)])
                    for side in (states, others)
                )
                found["frechet_distance"] = frechet_distance(x, y)
    return Evaluation(found, len(states))


def _states(samples: Tensor | TensorDictBase) -> Tensor:
    states = samples.get("state") if isinstance(samples, TensorDictBase) else samples
    if not isinstance(states, Tensor) or states.ndim < 2 or len(states) < 2:
        got = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise ValueError(f"samples must be states (N, *E), N >= 2, got {got}")
    if not torch.isfinite(states).all():
        raise ValueError("samples must be finite, got NaN or infinity among them")
    return states.detach()


def _rewards(reward) -> dict[str, Reward]:
    if reward is None:
        return {}
    if isinstance(reward, Mapping):
        return {f"reward_{name}": as_reward(term) for name, term in reward.items()}
    return {"reward": as_reward(reward)}


def _verdicts(name: str, judge, verdicts: Tensor) -> dict[str, Estimate]:
    if verdicts.ndim == 1:
        return {name: mean(verdicts)}
    names = getattr(judge, "names", range(verdicts.shape[1]))
    return {f"{name}_{a}": mean(verdicts[:, i]) for i, a in enumerate(names)}


def _distances(states: Tensor, others: Tensor, generator) -> dict[str, Estimate]:
    x, y = _spread(states), _spread(others)
    return {
        "sliced_wasserstein": sliced_wasserstein(states, others, generator=generator),
        "mmd": mmd(x, y),
        "energy_distance": energy_distance(x, y),
    }


def _reference(reference: Tensor | FlowMap, chunks, generator) -> Tensor:
    if isinstance(reference, FlowMap):
        draws = [
            reference.sample(len(part), condition=given, generator=generator)
            for part, given in chunks
        ]
        return torch.cat(draws)
    return _states(reference)


def _spread(states: Tensor) -> Tensor:
    """At most `PAIRS` of them, evenly spaced, so that ordered conditions are all kept."""
    rows = torch.linspace(0, len(states) - 1, min(PAIRS, len(states)), dtype=torch.float64)
    return states[rows.round().long().to(states.device)]


def _split(condition, states: Tensor, size: int) -> list:
    each = isinstance(condition, Tensor) and condition.ndim and len(condition) == len(states)
    return list(condition.split(size)) if each else [condition] * -(-len(states) // size)


def _identity(x: Tensor) -> Tensor:
    return x
