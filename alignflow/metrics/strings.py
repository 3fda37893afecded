"""Measures of decoded strings: how many are on a list, how many differ, and rates of properties."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from alignflow import checks

from .estimate import Estimate, jackknife, mean

__all__ = ["distinct", "entropy", "listed", "rates"]


def listed(strings: Sequence[str], known: Collection[str]) -> Estimate:
    """The fraction of strings that are on a list; of molecules, bring both to `canonical` first."""
    known = set(known)
    return mean(torch.tensor([float(string in known) for string in _strings(strings)]))


def distinct(strings: Sequence[str]) -> int:
    """How many of the strings differ. It is to be compared at equal numbers of strings only."""
    return len(set(_strings(strings)))


def entropy(strings: Sequence[str]) -> Estimate:
    """Entropy of the frequencies of n strings, in nats, at most log(n).

    It is below that of what they were drawn from: compare it at equal numbers of strings only.
    """
    place = {string: i for i, string in enumerate(dict.fromkeys(_strings(strings)))}
    index = torch.tensor([place[string] for string in strings])

    def plugged(index: Tensor) -> float:
        frequency = torch.bincount(index).double() / len(index)
        return torch.special.entr(frequency).sum().item()

    return jackknife(plugged, index)


def rates(
    strings: Sequence[str], properties: Mapping[str, Callable[[list[str]], Any]]
) -> dict[str, Estimate]:
    """The mean of each property of the strings: a rate, where it is 0 or 1.

    Args:
        strings: N texts; each is given to a property once.
        properties: By name, callables from texts to as many numbers, such as rewards.
    """
    counts = Counter(_strings(strings))
    texts, repeats = list(counts), torch.tensor(list(counts.values()))
    found = {}
    for name, call in properties.items():
        checks.called(f"the property {name!r}", call, "(strings) -> numbers")
        values = checks.as_tensor(name, call(texts)).double()
        if values.shape != (len(texts),):
            raise ValueError(
                f"the property {name!r} must answer with {len(texts)} numbers, "
                f"got {checks.shown(values)}"
            )
        found[name] = mean(values.repeat_interleave(repeats))
    return found


def _strings(strings: Any) -> Sequence[str]:
    if isinstance(strings, str) or not len(strings):
        raise ValueError(f"strings must be several texts, got {checks.shown(strings)}")
    return strings
