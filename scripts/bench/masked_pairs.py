"""Masked diffusion on the network of a flow map: TokenDiT over one-hot tokens and a mask.

Source: Sahoo et al. 2024 (MDLM, 2406.07524).
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from alignflow.draws import choices, uniform
from alignflow.policies import TokenDiT
from alignflow.targets import Sequences
from alignflow.training import TrainingOptions, fit

__all__ = ["Masked", "train_masked"]


class Masked(nn.Module):
    """Logits of masked tokens, trained on a bound of the likelihood.

    Args:
        target: Whose strings they are.
        network: Arguments of `TokenDiT` but for its sizes.
    """

    def __init__(self, target: Sequences, **network: Any):
        super().__init__()
        self.length, self.mask = target.event_shape
        self.network = TokenDiT(self.length, self.mask + 1, likelihood=False, **network)

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L), some of them masked, to (N, L, V)."""
        time = (tokens != self.mask).float().mean(1)  # what it is told is how many are known
        return self.network(one_hot(tokens, self.mask + 1).float(), time, time)[..., :-1]

    def forward(self, batch: TensorDict) -> TensorDict:
        """The bound on strings `data` (N, L) with the ranks `order` (N, L) that mask them."""
        tokens, order = batch["data"], batch["order"]
        n = len(tokens)
        count = 1 + torch.arange(n) % self.length
        masked = order.argsort(1).argsort(1) < count[:, None]
        logits = self.logits(tokens.masked_fill(masked, self.mask))
        nats = cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        bound = (torch.where(masked, nats, 0.0).sum(1) * self.length / count).mean()
        return TensorDict({"loss_bound": bound})

    @torch.no_grad()
    def sample(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """n strings (n, L), of which L / steps tokens at random places are drawn at a time."""
        tokens = torch.full((n, self.length), self.mask)
        order = uniform(tokens.shape, generator).argsort(1)
        for i in range(steps):
            probability = self.logits(tokens).softmax(-1).flatten(0, 1)
            drawn = choices(probability, 1, generator).view(n, self.length)
            places = order[:, self.length * i // steps : self.length * (i + 1) // steps]
            tokens = tokens.scatter(1, places, drawn.gather(1, places))
        return tokens


def train_masked(
    target: Sequences, steps: int, batch_size: int, options: TrainingOptions, **network: Any
) -> Masked:
    """A masked diffusion model of a list of strings."""

    def draw(generator: torch.Generator) -> TensorDict:
        data = target.sample(batch_size, generator=generator).argmax(-1)
        order = uniform(tuple(data.shape), generator)
        return TensorDict({"data": data, "order": order}, batch_size=batch_size)

    torch.manual_seed(0)
    model = Masked(target, **network)
    return fit(model, model, draw, steps=steps, generator=0, options=options)
