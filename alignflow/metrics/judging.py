"""One call that judges samples: reward, diversity, distances to a reference, and judges."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeGuard

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn.functional import one_hot

from alignflow import checks
from alignflow.conditions import check_rows, rows_of
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.modes import frozen
from alignflow.reward_module import Reward, as_reward, copied

from .distances import frechet_distance, sliced_wasserstein
from .estimate import Estimate, mean
from .evaluation import Evaluation
from .judges import check_judges, judged
from .pairwise import diversity, energy_distance, mmd

__all__ = ["evaluate"]

PAIRS = 2048
"""Samples in statistics over all pairs, whose cost is quadratic."""

Samples = Tensor | list[str]
Chunks = list[tuple[Any, Any]]


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

    Modules run in evaluation mode, and are left in the mode they were in.

    Args:
        samples: States (N, *E), as a tensor, an array or the `state` of a TensorDict; or N texts,
            which need no decoding, and whose distances are those of their one-hot characters.
        reward: What was aligned to, or several by name: `reward`, `reward_<name>`.
        reference: States (M, *E) or M texts, or a model or another source with
            `sample(n, generator=...)`, of which as many as the samples are drawn: `sliced_w2`,
            `mmd` (squared) and `energy_distance` to it.
        judges: By name, from decoded samples to (N,) or (N, A) numbers whose means are reported as
            `<name>`, or `<name>_<a>` with a from the judge's `names` or `labels` where it has them.
        condition: Of the samples, one for all or N of them; rewards and the reference get it.
        decode: From states to what rewards and judges see; by default the reference model's.
        features: From decoded samples to (N, F): adds `frechet_distance` to the reference.
        batch_size: Samples decoded and scored at a time.
        generator: Source of the reference's samples and of the random directions, or its seed.

    Raises:
        ValueError: If the samples are no batch of finite states or texts, a judge's name is another
            measure's, or a judge does not answer with one finite number, or row, a sample.
        RewardError: If a reward fails; see `Reward`.
    """
    given, generator = _given("samples", samples), checks.as_generator(generator)
    if decode is None:
        decode = reference.decode if isinstance(reference, FlowMap) else _identity
    checks.called("decode", decode, "(states) -> what rewards and judges see")
    if features is not None:
        checks.called("features", features, "(samples) -> features (N, F)")
    rewards, judges = _rewards(reward), check_judges(judges)
    seen = decode if isinstance(given, Tensor) else _identity
    chunks = _chunks(given, condition, checks.count("batch_size", batch_size))
    modules = [part for part in (reference, features, *judges.values()) if _is_module(part)]
    found: dict[str, Estimate] = {}
    with torch.no_grad(), frozen(*modules):
        for name, term in rewards.items():
            found[name] = mean(torch.cat([term.score(x, its, seen) for x, its in chunks]))
        for name, judge in judges.items():
            found |= judged(name, judge, _decoded(chunks, seen), found)
        if reference is None:
            found["diversity"] = diversity(_thinned(*_as_states(given)))
            return Evaluation(found, len(given))
        others = _reference(reference, chunks, generator)
        if not isinstance(given, Tensor):
            others = decode(others) if isinstance(others, Tensor) else others
        states, others_states = _as_states(given, others)
        found["diversity"] = diversity(_thinned(states))
        found |= _distances(states, others_states, generator)
        if features is not None:
            featured = partial(_features, features, seen, batch_size)
            found["frechet_distance"] = frechet_distance(featured(given), featured(others))
    return Evaluation(found, len(given))


def _given(name: str, samples: Any) -> Samples:
    """States, or texts."""
    return list(samples) if _are_texts(samples) and len(samples) > 1 else _states(name, samples)


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


def _as_states(*samples: Samples) -> list[Tensor]:
    """States in the precision of the first; texts as one-hot characters, padded to one length."""
    first, *others = samples
    if isinstance(first, Tensor) and all(isinstance(other, Tensor) for other in others):
        return [torch.as_tensor(each).to(first) for each in samples]
    if not all(map(_are_texts, samples)):
        kinds = " and ".join(checks.shown(each) for each in samples)
        raise ValueError(f"samples and reference must be both states or both texts, got {kinds}")
    texts: list[str] = [text for each in samples for text in each]  # pyright: ignore
    length = max(1, *map(len, texts))
    ids = {character: i for i, character in enumerate(sorted(set("".join(texts))))}
    return [_characters(each, ids, length) for each in samples]


def _characters(texts: Any, ids: dict[str, int], length: int) -> Tensor:
    rows = [[ids[c] for c in text] + [len(ids)] * (length - len(text)) for text in texts]
    return one_hot(torch.tensor(rows), len(ids) + 1).float()


def _chunks(states: Samples, condition: Any, size: int) -> Chunks:
    """The samples so many at a time, each part with its rows of the condition."""
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


def _decoded(chunks: Chunks, decode: Callable[[Tensor], Any]) -> Iterator[tuple[Any, int]]:
    """What judges see, a copy that they may write into, and how many samples it is."""
    for part, _ in chunks:
        yield copied(decode(part)), len(part)


def _features(
    features: Callable[[Any], Tensor], decode: Callable[[Any], Any], size: int, samples: Samples
) -> Tensor:
    """Features (N, F) of samples, so many at a time."""
    parts = [samples[start : start + size] for start in range(0, len(samples), size)]
    return torch.cat([features(copied(decode(part))) for part in parts])


def _distances(states: Tensor, others: Tensor, generator: Any) -> dict[str, Estimate]:
    x, y = _thinned(states), _thinned(others)
    return {
        "sliced_w2": sliced_wasserstein(states, others, generator=generator),
        "mmd": mmd(x, y),
        "energy_distance": energy_distance(x, y),
    }


def _reference(reference: Any, chunks: Chunks, generator) -> Samples:
    if isinstance(reference, Tensor | TensorDictBase | np.ndarray | list | tuple):
        return _given("reference", reference)
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
    """At most `PAIRS` of them, evenly spaced, so that ordered conditions all count."""
    rows = torch.linspace(0, len(states) - 1, min(PAIRS, len(states)), dtype=torch.float64)
    return states[rows.round().long().to(states.device)]


def _is_module(part: Any) -> TypeGuard[nn.Module]:
    return isinstance(part, nn.Module)


def _identity(x: Tensor) -> Tensor:
    return x
