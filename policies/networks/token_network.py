"""What networks of soft tokens have in common: what a state alone says, a prior, fixed tokens."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow.interpolants import expand_time
from alignflow.simplex import check_fixed_tokens, check_tokens, token_log_likelihood

__all__ = ["TokenNetwork"]

CERTAIN = 30.0  # logit of a fixed token above all others: e^-30 is 0 beside 1 in float32


class TokenNetwork(nn.Module):
    """A network of states (L, V) with the frequencies of tokens at each position as its prior.

    Args:
        length: Positions L.
        vocabulary: Tokens V.
        infill: Whether the condition is tokens that are fixed, (N, L), -1 where the network is to
            write one.

    Attributes:
        arguments: Of the constructor.
    """

    arguments: dict[str, Any]
    log_prior: Tensor

    def __init__(self, length: int, vocabulary: int, infill: bool):
        super().__init__()
        self.infill = infill
        self.register_buffer("log_prior", torch.zeros(length, vocabulary))

    @property
    def null_condition(self) -> Tensor | None:
        """The row that fixes no token, (L,), of a network that takes fixed tokens."""
        if not self.infill:
            return None
        return self.log_prior.new_full((len(self.log_prior),), -1, dtype=torch.long)

    def takes(self, event_shape: Sequence[int]) -> bool:
        """Whether it takes states of a shape."""
        return tuple(event_shape) == tuple(self.log_prior.shape)

    def check_condition(self, condition: Tensor) -> None:
        """Refuse what are no fixed tokens, if the network takes them.

        Raises:
            ValueError: It says what came and what was wanted.
        """
        if self.infill:
            check_fixed_tokens(condition, self.log_prior.shape)

    def set_prior(self, tokens: Tensor, weights: Tensor | None = None) -> "TokenNetwork":
        """The network itself, with the frequencies of the tokens at each position as its prior.

        Args:
            tokens: (N, L).
            weights: Of the rows, (N,); equal by default.
        """
        length, vocabulary = self.log_prior.shape
        if tokens.ndim != 2 or tokens.shape[1] != length:
            raise ValueError(f"tokens must be (N, {length}), got {tuple(tokens.shape)}")
        check_tokens(tokens, vocabulary)
        weight = torch.ones(len(tokens)) if weights is None else weights
        weight = (weight / weight.sum()).double().expand(length, -1)
        counts = torch.zeros(length, vocabulary, dtype=torch.float64)
        counts.scatter_add_(1, tokens.T.long(), weight)
        # as if each token had been seen once more in a row that is split among them
        smooth = (len(tokens) * counts + 1 / vocabulary) / (len(tokens) + 1)
        self.log_prior.copy_(smooth.log())
        return self

    def read(self, x: Tensor, t: Tensor, fixed: Tensor | None) -> tuple[Tensor, Tensor]:
        """The state by its std, and the log-posterior of each token by its position alone.

        Fixed tokens are there as at time 1.

        Args:
            x: (N, L, V).
            t: (N,).
            fixed: (N, L), or None.
        """
        time = expand_time(t, x)
        std = ((1 - time).square() + time.square() / x.shape[-1]).sqrt()  # of a noised one-hot
        state, alone = x / std, token_log_likelihood(x, t) + self.log_prior
        if fixed is None:
            return state, alone
        check_fixed_tokens(fixed, self.log_prior.shape)
        known = (fixed >= 0)[..., None]
        token = F.one_hot(fixed.clamp(min=0), x.shape[-1]).to(x)
        root = x.shape[-1] ** 0.5  # of a one-hot state over its std at time 1
        return torch.where(known, root * token, state), torch.where(known, CERTAIN * token, alone)

    def write(self, logits: Tensor, alone: Tensor, fixed: Tensor | None) -> Tensor:
        """The logits (N, L, V), those of fixed tokens as they are."""
        return logits if fixed is None else torch.where((fixed >= 0)[..., None], alone, logits)
