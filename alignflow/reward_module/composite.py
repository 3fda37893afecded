r"""A weighted sum of rewards.

.. math:: r(x) = \sum_i w_i \, r_i(x)
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks

from .decorator import as_reward
from .interface import Reward

__all__ = ["Sum"]


class Sum(Reward):
    """A weighted sum of rewards; `score_terms` also returns each term by name.

    It is differentiable if all of its terms are, and otherwise a black box. A sample that one term
    drops (`on_invalid="drop"`) is dropped by the sum. States are decoded once for all terms.

    ::

        af.Sum({"red": (redness, 1.0), "small": (af.rewards.Compressibility(), 0.5)})

    Called on a TensorDict it also writes each term as `endpoint_reward_<name>`.

    Args:
        terms: Name to (reward, weight).
        name: Of the sum.
    """

    def __init__(self, terms: Mapping[str, tuple[Any, float]], name: str = "sum"):
        if not isinstance(terms, Mapping) or not terms:
            raise ValueError(
                "a sum of rewards needs at least one term, {name: (reward, weight)}, "
                f"got {checks.shown(terms)}"
            )
        for key in terms:
            checks.instance("each name of a term", key, str, "a text")
        pairs = {key: _pair(key, term) for key, term in terms.items()}
        rewards = nn.ModuleList(reward for reward, _ in pairs.values())
        super().__init__(rewards, name, all(reward.differentiable for reward in rewards))
        self.weights = {key: weight for key, (_, weight) in pairs.items()}
        self.out_keys = ["endpoint_reward", *(f"endpoint_reward_{key}" for key in pairs)]

    @property
    def terms(self) -> dict[str, Reward]:
        """The rewards by name."""
        return dict(zip(self.weights, self.function, strict=True))

    def score(self, states, condition=None, decode=lambda x: x) -> Tensor:
        return self.score_terms(states, condition, decode)[0]

    def score_terms(self, states, condition=None, decode=lambda x: x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable):
            if any(term.space == "decoded" for term in self.function):
                endpoint = decode(states)
                decode = lambda _: endpoint  # noqa: E731
            parts = {key: term.score(states, condition, decode) for key, term in self.terms.items()}
            total = torch.stack([self.weights[key] * part for key, part in parts.items()]).sum(0)
            dropped = torch.stack([part.isneginf() for part in parts.values()]).any(0)
            total = torch.where(dropped, -torch.inf, total)
        return total, {key: part.detach() for key, part in parts.items()}

    def __repr__(self) -> str:
        terms = [f"{self.weights[key]} * {term!r}" for key, term in self.terms.items()]
        return f"{type(self).__name__}({' + '.join(terms)})"


def _pair(key: str, term: Any) -> tuple[Reward, float]:
    try:
        candidate, weight = term
    except (TypeError, ValueError) as error:
        raise ValueError(f"term {key!r} must be a pair (reward, weight), got {term!r}") from error
    return as_reward(candidate), float(checks.finite(f"the weight of term {key!r}", weight))
