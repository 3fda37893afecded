r"""Data sets of strings as what the samples of a run are compared with: as they are, or tilted.

.. math:: p^*(i) \propto w_i \, e^{\lambda r_i}

The tilt of a list with known weights is the list with others, so all rates under it are exact.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from alignflow import checks
from alignflow.data.strings import Strings
from alignflow.metrics.estimate import Estimate, mean
from alignflow.metrics.fractions import total_variation
from alignflow.tilt import Tilt

__all__ = ["ListedStrings", "TiltedStrings"]


class ListedStrings:
    """A data set of strings that samples are compared with.

    Args:
        strings: The data set.
        observables: By name, callables from N texts to N numbers, such as rewards, whose
            distributions are compared.
    """

    def __init__(
        self, strings: Strings, observables: Mapping[str, Callable[[list[str]], Any]] | None = None
    ):
        self.strings = checks.instance("strings", strings, Strings, "a data set of strings")
        self.observables = dict(observables or {})

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Tensor:
        """States (n, L, V) of n strings drawn by weight."""
        return self.strings.states(self.strings.draw(n, generator))


class TiltedStrings(ListedStrings):
    """A list of strings under a tilt.

    Args:
        strings: The list, all of whose strings there are.
        tilt: Its rewards are asked once for each string.
        observables: As in `ListedStrings`.

    Attributes:
        states: One-hot (N, L, V).
        rewards: Of the strings, (N,).
        weights: Under the tilt, (N,), float64, of sum 1.
    """

    def __init__(
        self,
        strings: Strings,
        tilt: Tilt,
        observables: Mapping[str, Callable[[list[str]], Any]] | None = None,
    ):
        super().__init__(strings, observables)
        tilt = checks.instance("tilt", tilt, Tilt, "a Tilt")
        self.states = strings.states()
        rewards, log_weight = tilt.score(self.states.double(), None, strings.vocabulary)
        self.rewards = rewards
        weights = checks.as_tensor("weights", strings.weights)
        self.weights = (weights.log() + log_weight).softmax(0)
        self.strings = replace(strings, weights=self.weights)
        keys = strings.vocabulary.canonical(strings.strings)
        self._places = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        place = torch.tensor([self._places[key] for key in keys])
        # the last is for all that is not on the list
        self._rates = self.weights.new_zeros(len(keys) + 1).index_add(0, place, self.weights)

    def compare(self, texts: list[str]) -> dict[str, Estimate]:
        """Total variation of N texts to the tilted list, and the fraction that is not on it."""
        off = len(self._rates) - 1
        keys = self.strings.vocabulary.canonical(texts)
        place = torch.tensor([self._places.get(key, off) for key in keys])
        return {
            "total_variation": total_variation(one_hot(place, off + 1), self._rates),
            "off_list": mean((place == off).double()),
        }
