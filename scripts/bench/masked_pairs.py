"""Masked diffusion on the network of a flow map: TokenMLP over one-hot tokens and a mask."""

import sys
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.functional import one_hot

from alignflow.policies import TokenMLP
from alignflow.targets import Sequences
from alignflow.training import TrainingOptions, fit

sys.path.append(str(Path(__file__).parents[1] / "baselines"))
from masked import Masked

__all__ = ["train_masked"]


class _MaskedMLP(nn.Module):
    """Logits (N, L, V) of tokens (N, L), some of them V, the mask.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        sizes: Of `TokenMLP`.
    """

    def __init__(self, length: int, vocabulary: int, **sizes: Any):
        super().__init__()
        self.length, self.vocabulary = length, vocabulary
        self.network = TokenMLP(length, vocabulary + 1, **sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        # in place of a time it is told how many tokens are known
        known = (tokens != self.vocabulary).float().mean(1)
        states = one_hot(tokens, self.vocabulary + 1).float()
        return self.network(states, known, known)[..., :-1]


class _Loss(nn.Module):
    """The bound on strings `data` (N, L) with the masks `masked` (N, L)."""

    def __init__(self, model: Masked):
        super().__init__()
        self.model = model

    def forward(self, batch: TensorDict) -> TensorDict:
        return TensorDict({"loss_bound": self.model.bound(batch["data"], batch["masked"]).mean()})


def train_masked(
    target: Sequences, steps: int, batch_size: int, options: TrainingOptions, **sizes: Any
) -> Masked:
    """A masked diffusion model of a list of strings, by a `TokenMLP` of some sizes."""
    torch.manual_seed(0)
    model = Masked(_MaskedMLP(*target.event_shape, **sizes))

    def draw(generator: torch.Generator) -> TensorDict:
        data = target.sample(batch_size, generator=generator).argmax(-1)
        masked = model.masks(batch_size, generator)
        return TensorDict({"data": data, "masked": masked}, batch_size=batch_size)

    return fit(_Loss(model), model, draw, steps=steps, generator=0, options=options)
