"""Portraits drawn in batches and stored, and what best-of-N would make of the base's."""

from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import track
from tensordict import TensorDict
from torch import Tensor

from alignflow.policies import load_judge
from alignflow.precision import autocast, fastest

__all__ = ["best_of", "forwards", "seen", "sampled"]

BATCH = 64


def sampled(folder: Path, name: str, draw: Callable, n: int) -> TensorDict:
    """n samples of `draw(n, generator)` and their cost, a batch at a time, or those stored.

    Args:
        folder: Where they are stored.
        name: Of the method, with whatever tells it from another.
        draw: Gives a TensorDict of `state`, `reward` and the counts, as `Steerer.sample` does.
        n: How many.
    """
    file = folder / f"{name}-{n}.pt"
    if file.exists():
        return torch.load(file, weights_only=False)
    parts = []
    for start in track(range(0, n, BATCH), name):
        generator = torch.Generator().manual_seed(start)
        with autocast(fastest()):
            parts.append(draw(min(BATCH, n - start), generator))
    found = TensorDict(
        {key: torch.cat([part[key].float() for part in parts]) for key in ("state", "reward")}
    )
    for key in ("nfe", "vjps", "reward_calls"):
        found[key] = parts[0][key]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(found, file)
    return found


def forwards(found: TensorDict) -> int:
    """Cost of a sample in forwards of the network, a gradient through it counted as two."""
    return int(found["nfe"] + 2 * found["vjps"])


@torch.no_grad()
def seen(policy, found: TensorDict, *attributes: str) -> Tensor:
    """Whether the judge, which no method sees, finds all of the attributes, (N,)."""
    judge = load_judge("avatars")
    columns = [list(judge.labels).index(name) for name in attributes]
    logits = torch.cat([judge(policy.decode(part)) for part in found["state"].split(1000)])
    return (logits[:, columns] > 0).all(1).double()


def best_of(n: float, reward: Tensor, *values: Tensor) -> list[float]:
    """Means of values (N,) of the best of n samples: exact, over all groups of those at hand."""
    order = reward.argsort()
    rank = torch.arange(len(order) + 1, dtype=torch.float64) / len(order)
    weight = rank[1:] ** n - rank[:-1] ** n
    return [(weight @ value.double()[order]).item() for value in values]
