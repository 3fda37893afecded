"""The autoregressive baseline: a causal transformer, and what it is trained by."""

import torch
from torch import Tensor

from alignflow.policies import CausalTransformer

__all__ = ["Autoregressive"]


class Autoregressive(CausalTransformer):
    """Strings end with their first padding, so the likelihood is one of strings and exact."""

    def loss(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-log p of strings (N, L), (N,), in nats."""
        del generator
        return -self.log_prob(tokens)
