"""What is found in samples by those who are never optimized: a judge, and held-out rewards.

A judge is a module with `labels`, whether they are `exclusive`, `features` of decoded samples
(N, F), and a call from decoded samples to logits (N, A).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alignflow.metrics import Estimate, mean

from .context import Context
from .settings import ConfigError

__all__ = ["Verdict", "decoded", "joined", "judge_samples"]


@dataclass(frozen=True)
class Verdict:
    """Of n samples: which hold each label (n,), features (n, F) if judged, held-out rewards."""

    held: dict[str, Tensor]
    features: Tensor | None
    held_out: dict[str, Estimate]


def judge_samples(context: Context, states: Tensor) -> Verdict:
    """Judge states (n, *E) by the run's judge, if it has one, and by its held-out rewards.

    Raises:
        ConfigError: If the judge answers what is not finite.
    """
    held, features = {}, None
    if (judge := context.judge) is not None:
        with torch.no_grad():
            found = [(judge(part), judge.features(part)) for part in decoded(context, states)]
        logits, features = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        if not (torch.isfinite(logits).all() and torch.isfinite(features).all()):
            raise ConfigError("the judge answers NaN or infinity of some samples")
        hard = nn.functional.one_hot(logits.argmax(1), logits.shape[1]) if judge.exclusive else None
        columns = (logits > 0 if hard is None else hard).double().unbind(1)
        held = dict(zip(map(str, judge.labels), columns, strict=True))
    return Verdict(held, features, _held_out(context, states))


def decoded(context: Context, states: Tensor) -> Iterator[Any]:
    """What people and rewards see of states, a batch at a time."""
    for part in states.split(context.config.evaluation.batch_size):
        yield context.policy.decode(part.to(context.config.device))


def joined(parts: Iterable[Any]) -> Any:
    """Batches of decoded samples as one, a tensor on the CPU or a list."""
    parts = list(parts)
    if isinstance(parts[0], Tensor):
        return torch.cat([part.cpu() for part in parts])
    return [sample for part in parts for sample in part]


def _held_out(context: Context, states: Tensor) -> dict[str, Estimate]:
    found: dict[str, list[Tensor]] = {name: [] for name in context.held_out}
    start = 0
    for part in states.to(context.config.device).split(context.config.evaluation.batch_size):
        condition = context.condition(slice(start, start + len(part)))
        for name, reward in context.held_out.items():
            with torch.no_grad():
                found[name].append(reward.score(part, condition, context.policy.decode))
        start += len(part)
    return {name: mean(torch.cat(scores)) for name, scores in found.items()}
