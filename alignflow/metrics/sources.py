"""Samples that are given or drawn: states or texts, in batches, each with its condition."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot

from alignflow import checks
from alignflow.conditions import (
    check_rows,
    condition_rows,
    group_rows,
    rows_of,
    take_rows,
)
from alignflow.flow_map import FlowMap, check_flow_map

__all__ = [
    "Base",
    "Chunks",
    "Samples",
    "as_samples",
    "as_states",
    "draw_base",
    "drawn",
    "in_chunks",
    "thinned",
]

PAIRS = 2048
"""Samples in statistics over all pairs, whose cost is quadratic."""

Samples = Tensor | list[str]
Chunks = list[tuple[Any, Any]]
"""Parts of the samples, each with its rows of the condition."""


def as_samples(name: str, samples: Any) -> Samples:
    """States (N, *E), or N texts.

    Args:
        name: Of the argument.
        samples: A tensor, an array, the `state` of a TensorDict, or texts.

    Raises:
        ValueError: If it is no batch of two or more finite states or texts.
    """
    return list(samples) if _are_texts(samples) and len(samples) > 1 else _states(name, samples)


def as_states(what: str, first: Samples, *others: Samples) -> list[Tensor]:
    """States in the precision of the first; texts as one-hot characters, padded to one length.

    Raises:
        ValueError: If some are states and some texts, or states of another shape; it says which.
    """
    samples = [first, *others]
    if isinstance(first, Tensor) and all(isinstance(other, Tensor) for other in others):
        shapes = [tuple(each.shape) for each in samples if isinstance(each, Tensor)]
        if len({shape[1:] for shape in shapes}) > 1:
            kinds = " and ".join(map(str, shapes))
            raise ValueError(f"samples and {what} must be of one event shape, got {kinds}")
        return [torch.as_tensor(each).to(first) for each in samples]
    if not all(map(_are_texts, samples)):
        kinds = " and ".join(checks.shown(each) for each in samples)
        raise ValueError(f"samples and {what} must be both states or both texts, got {kinds}")
    texts: list[str] = [text for each in samples for text in each]  # pyright: ignore
    length = max(1, *map(len, texts))
    ids = {character: i for i, character in enumerate(sorted(set("".join(texts))))}
    return [_characters(each, ids, length) for each in samples]


def in_chunks(samples: Samples, condition: Any, size: int) -> Chunks:
    """The samples so many at a time, each part with its rows of the condition."""
    n = len(samples)
    check_rows(condition, n)
    rows = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    return [(samples[part], rows_of(condition, part, n)) for part in rows]


def drawn(name: str, source: Any, parts: list[tuple[int, Any]], generator: Any) -> Samples:
    """Samples that are given, or drawn of a model or another source.

    Args:
        name: Of the argument.
        source: Samples; or a flow map, or an object with `sample(n, generator=...)`.
        parts: How many to draw at a time, with their rows of the condition, which a flow map gets.
        generator: Source of the noise.
    """
    if isinstance(source, Tensor | TensorDictBase | np.ndarray | list | tuple):
        return as_samples(name, source)
    if isinstance(source, FlowMap):
        draws = [source.sample(n, condition=its, generator=generator) for n, its in parts]
        return torch.cat(draws)
    if not callable(getattr(source, "sample", None)):
        check_flow_map(name, source)
    n = sum(n for n, _ in parts)
    return _states(name, source.sample(n, generator=generator))


@dataclass(frozen=True)
class Base:
    """Samples of the base under the conditions of N samples, in turn.

    Attributes:
        samples: M of them.
        condition: Theirs, one for all or M rows.
        groups: Index of each one's condition, (M,); None where all have one.
        sample_groups: Likewise of the N samples, (N,).
    """

    samples: Samples
    condition: Any = None
    groups: Tensor | None = None
    sample_groups: Tensor | None = None


def draw_base(
    base: Any, condition: Any, n: int, least: int, batch_size: int, generator: Any
) -> Base:
    """Samples of the base, given or drawn.

    Args:
        base: A flow map or another source; or samples, which have the conditions in turn.
        condition: Of n samples.
        n: How many these are.
        least: How many to draw, rounded up to as many for each of n rows of a condition.
        batch_size: Drawn at a time.
        generator: Source of the noise.

    Raises:
        ValueError: If samples that are given are not as many for each of n rows.
    """
    rows = condition_rows(condition, n, getattr(condition, "device", None) or "cpu")
    groups = group_rows(rows, n)
    if not groups.any():
        parts = [(min(batch_size, least - at), condition) for at in range(0, least, batch_size)]
        return Base(drawn("base", base, parts, generator), condition)
    turns = torch.arange(-(-least // n) * n) % n
    parts = [(len(part), take_rows(rows, part)) for part in turns.split(batch_size)]
    samples = drawn("base", base, parts, generator)
    if len(samples) % n:
        raise ValueError(
            f"samples of the base have the conditions of the {n} samples in turn, so there must be "
            f"{n}, {2 * n}, ... of them, got {len(samples)}; or give the model, base=policy"
        )
    turns = torch.arange(len(samples)) % n
    return Base(samples, take_rows(rows, turns), groups[turns], groups)


def thinned(states: Tensor) -> Tensor:
    """At most `PAIRS` of them, evenly spaced, so that ordered conditions all count."""
    rows = torch.linspace(0, len(states) - 1, min(PAIRS, len(states)), dtype=torch.float64)
    return states[rows.round().long().to(states.device)]


def _are_texts(samples: Any) -> bool:
    several = isinstance(samples, list | tuple) and len(samples) > 0
    return several and all(isinstance(text, str) for text in samples)


def _states(name: str, samples: Any) -> Tensor:
    states = samples
    if isinstance(samples, TensorDictBase):
        states = samples.get("state", samples.get("data", None))
    states = torch.as_tensor(states) if isinstance(states, np.ndarray) else states
    if not isinstance(states, Tensor) or states.ndim < 2 or len(states) < 2:
        raise ValueError(
            f"{name} must be states (N, *E) or N texts, N >= 2, got {checks.shown(samples)}"
        )
    if not states.is_floating_point():
        raise ValueError(f"{name} must be floats, got {states.dtype}: images lie in [-1, 1]")
    if not torch.isfinite(states).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity among them")
    return states.detach()


def _characters(texts: Any, ids: dict[str, int], length: int) -> Tensor:
    rows = [[ids[c] for c in text] + [len(ids)] * (length - len(text)) for text in texts]
    return one_hot(torch.tensor(rows), len(ids) + 1).float()
