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

import torch
from torch import Tensor
from trunk import Trunk, token_nats

from alignflow.draws import choices, uniform

__all__ = ["ORDERS", "Masked"]

ORDERS = ("random", "confidence")


class Masked(Trunk):
    """Bidirectional attention; token V is the mask."""

    def loss(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bounds of -log p of strings (N, L), (N,), in nats, of one set of masked tokens each."""
        tokens, n, device = tokens.long(), len(tokens), tokens.device
        # stratified over the rows
        at = (torch.arange(n, device=device) + uniform((n,), generator, device=device)) / n
        count = (at * self.length).long()[:, None].clamp(max=self.length - 1) + 1
        rank = uniform(tokens.shape, generator, device=device).argsort(1).argsort(1)
        masked = rank < count
        nats = token_nats(self(tokens.masked_fill(masked, self.vocabulary)), tokens)
        return torch.where(masked, nats * self.length / count, 0.0).sum(1)

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
        priority = uniform(tokens.shape, generator, device=self.device)
        for i in range(steps):
            count = self.length * (i + 1) // steps - self.length * i // steps
            probability = (self(tokens) / temperature).softmax(-1)
            if order == "confidence":
                priority = probability.amax(-1)
            chosen = priority.masked_fill(tokens < self.vocabulary, -1.0).topk(count).indices
            rows = probability.gather(1, chosen[..., None].expand(-1, -1, self.vocabulary))
            drawn = choices(rows.flatten(0, 1), 1, generator).view_as(chosen)
            tokens.scatter_(1, chosen, drawn)
        return tokens
