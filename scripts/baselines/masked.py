r"""Masked diffusion of strings: tokens are masked, and drawn from what the others say.

.. math::
    -\log p(x) &\le \int_0^1 \frac{1}{1-t}\, E \sum_{l\ \mathrm{masked}}
        -\log p_l(x_l \mid x_t)\, dt \\
    &= E_k \frac{L}{k} \sum_{l\ \mathrm{masked}} -\log p_l(x_l \mid x_k)

On the left each token is masked with probability 1 - t. Given that k are, all sets of k are as
likely, k from 1 to L is uniform under dt / (1-t), and what is trained is that mean over t, whose
weights are bounded.

Source: Sahoo et al. 2024 (MDLM, 2406.07524).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from alignflow.draws import choices, uniform
from alignflow.policies.networks.token_transformer import token_nats, token_probabilities

__all__ = ["ORDERS", "Masked", "TokenLogits"]

ORDERS = ("random", "confidence")


class TokenLogits(Protocol):
    """A network of token ids (N, L), V for a mask, that gives logits (N, L, V)."""

    length: int
    vocabulary: int

    def __call__(self, tokens: Tensor) -> Tensor: ...


class Masked(nn.Module):
    """Masked diffusion by a network; token V is the mask.

    Args:
        network: A module that is a `TokenLogits`.
    """

    def __init__(self, network: TokenLogits):
        super().__init__()
        self.network = network
        self.length, self.vocabulary = network.length, network.vocabulary

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network(tokens)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def masks(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Which tokens of n strings are masked, (n, L); their numbers are stratified over rows."""
        at = (torch.arange(n, device=self.device) + self._uniform((n,), generator)) / n
        count = (at * self.length).long()[:, None].clamp(max=self.length - 1) + 1
        return self._uniform((n, self.length), generator).argsort(1).argsort(1) < count

    def bound(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """Bounds of -log p of strings (N, L), (N,), in nats, of one set of masks (N, L) each."""
        tokens = tokens.long()
        nats = token_nats(self(tokens.masked_fill(masked, self.vocabulary)), tokens)
        count = masked.sum(1, keepdim=True)
        return (nats * self.length / count).masked_fill(~masked, 0.0).sum(1)

    def loss(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The bounds of strings (N, L), (N,), at masks that are drawn."""
        return self.bound(tokens, self.masks(len(tokens), generator))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        steps: int,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        order: str = "random",
    ) -> Tensor:
        """n strings, (n, L), of which L / steps tokens are drawn at a time.

        Args:
            n: How many.
            steps: Calls of the network, at most L.
            generator: Source of the draws.
            temperature: That logits are divided by.
            order: Which tokens come first: "random", or those of the highest "confidence", the
                probability of the likeliest token.
        """
        if not 1 <= steps <= self.length or order not in ORDERS:
            raise ValueError(
                f"steps must be from 1 to {self.length} and order one of {', '.join(ORDERS)}, "
                f"got {steps} and {order!r}"
            )
        tokens = torch.full((n, self.length), self.vocabulary, device=self.device)
        priority = self._uniform(tokens.shape, generator)
        for i in range(steps):
            count = self.length * (i + 1) // steps - self.length * i // steps
            probability = token_probabilities(self(tokens), temperature)
            if order == "confidence":
                priority = probability.amax(-1)
            chosen = priority.masked_fill(tokens < self.vocabulary, -1.0).topk(count).indices
            rows = probability.gather(1, chosen[..., None].expand(-1, -1, self.vocabulary))
            drawn = choices(rows.flatten(0, 1), 1, generator).view_as(chosen)
            tokens.scatter_(1, chosen, drawn)
        return tokens

    def _uniform(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return uniform(shape, generator, device=self.device)
