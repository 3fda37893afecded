r"""The energy score of draws: proper, so that its mean is smallest for the posterior alone.

.. math::
    S(x_1) = \mathbb{E} \lVert X - x_1 \rVert - \tfrac12\, \mathbb{E} \lVert X - X' \rVert,
    \qquad X, X' \sim \text{draws given } x_t

A regression leaves a map that cannot fit its targets the mean of those that it does not tell apart,
so that its draws vary too little. The energy score compares draws with the data row itself, whose
distribution given x_t is the posterior: draws that vary too little or too much score worse. It is a
loss of the one forward that draws are, and has no teacher whose error it would take over. The norm
of many coordinates hardly sees what few of them do together, so images are scored in patches too: a
sum of proper scores is proper.

Sources: Gneiting and Raftery 2007, section 4.3; De Bortoli et al. 2025 (2502.02483), who learn
p(x_1 | x_t) by it from scratch. The patches are ours.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from alignflow import checks
from alignflow.draws import integers
from alignflow.trainable import TrainablePolicy

__all__ = ["EnergyScore", "ScoredDraws"]


@dataclass(frozen=True)
class EnergyScore:
    """The energy score of a few draws, in lengths a coordinate.

    Args:
        fraction: Of the rows of a batch, whose draws are scored; the others learn the flow and its
            jumps.
        draws: K of a row, at least 2.
        patches: Sides of square patches of images (C, H, W), which are scored beside the whole.

    Raises:
        ValueError: If a number is none of its kind.
    """

    fraction: float = 0.75
    draws: int = 2
    patches: Sequence[int] = ()

    def __post_init__(self):
        checks.fraction("fraction", self.fraction)
        checks.count("draws", self.draws, least=2)
        if isinstance(self.patches, str) or not isinstance(self.patches, Sequence):
            raise ValueError(f"patches must be sides such as [4, 1], got {self.patches!r}")
        for side in self.patches:
            checks.count("a side of patches", side)

    def check(self, event_shape: Sequence[int]) -> None:
        """Refuse states that have no such patches."""
        if self.patches and (len(event_shape) != 3 or max(self.patches) > min(event_shape[1:])):
            raise ValueError(
                f"patches={list(self.patches)} are of images (C, H, W) of no smaller sides, and "
                f"states have the shape {tuple(event_shape)}"
            )

    def __call__(
        self, draws: Tensor, x1: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Scores of rows (N,), lower is better, a mean over the whole and the sizes of patches.

        Args:
            draws: (N, K, *E).
            x1: What was drawn, (N, *E).
            generator: Source of where the grids of patches begin.
        """
        both = torch.cat([draws, x1[:, None]], dim=1)
        scores = [_score(both.flatten(2)[:, :, None])]
        for side in self.patches:
            shift = integers(side, (2,), generator).tolist()
            scores.append(_score(_patches(both, side, shift)))
        return torch.stack(scores).mean(0)


class ScoredDraws(nn.Module):
    """The energy score of a stochastic map's draws in the first rows, and a loss of the others.

    The losses weigh as their fractions of the rows.

    Args:
        policy: The stochastic flow map.
        score: Of the draws.
        rest: A module from the other rows to a TensorDict of losses.
        generator: Source of noise.
    """

    def __init__(
        self,
        policy: TrainablePolicy,
        score: EnergyScore,
        rest: nn.Module,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        score.check(policy.event_shape)
        self.policy, self.score, self.rest, self.generator = policy, score, rest, generator

    def forward(self, batch: TensorDictBase) -> TensorDict:
        """Losses of rows with `data` (N, *E) and a context as their `condition`."""
        rows = len(batch)
        scored = round(self.score.fraction * rows)
        losses = {}
        if scored:
            losses["loss_score"] = scored / rows * self._score(batch[:scored]).mean()
        if scored < rows:
            rest = self.rest(batch[scored:])
            losses |= {name: (1 - scored / rows) * loss for name, loss in rest.items()}
        return TensorDict(losses)

    def _score(self, batch: TensorDictBase) -> Tensor:
        x1, context = batch.get("data"), batch.get("condition")
        n, draws = len(x1), self.score.draws
        noise = self.policy.noise(n * draws, self.generator).unflatten(0, (n, draws)).to(x1)
        state, time = context["state"], context["time"]
        drawn = self.policy.posterior_flow(noise, state, time, context.get("label", None))
        return self.score(drawn, x1, self.generator)


def _score(both: Tensor) -> Tensor:
    """Scores (N,) of draws and, last of them, data (N, K + 1, P, D), a mean over P parts."""
    draws, x1 = both[:, :-1], both[:, -1:]
    away = torch.linalg.vector_norm(draws - x1, dim=-1).mean(1)
    pairs = itertools.combinations(draws.unbind(1), 2)
    apart = torch.stack([torch.linalg.vector_norm(a - b, dim=-1) for a, b in pairs]).mean(0)
    return (away - apart / 2).mean(-1) / math.sqrt(both.shape[-1])


def _patches(images: Tensor, side: int, shift: list[int]) -> Tensor:
    """Images (N, K, C, H, W) as patches (N, K, P, C * side^2) of a grid that begins at a shift."""
    rolled = images.roll(shift, dims=(-2, -1))
    grid = rolled.unfold(-2, side, side).unfold(-2, side, side)  # N, K, C, rows, columns, side^2
    return grid.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(2, 3)
