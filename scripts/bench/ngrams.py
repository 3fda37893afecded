r"""n-grams of tokens, interpolated by Witten and Bell: a baseline of likelihoods, and a judge.

.. math:: p(k \mid h) = \frac{c(hk) + T(h)\, p(k \mid h')}{c(h) + T(h)}

c counts, h' is h without its first token, and T(h) is the number of different tokens after h. A
string ends with its first padding (token 0), so the likelihood is one of strings.

Source: Witten and Bell 1991, "The zero-frequency problem".
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["Ngrams"]


class Ngrams:
    """n-grams of strings.

    Args:
        tokens: Strings (N, L) to count.
        size: Tokens V; tables of V to the power `order` are held.
        order: n, at least 1.
    """

    def __init__(self, tokens: Tensor, size: int, order: int):
        self.size, self.order = size, order
        codes, counted = self._codes(tokens)
        codes = codes[counted]
        self.tables = []
        for n in range(1, order + 1):
            counts = torch.bincount(codes % size**n, minlength=size**n).int()
            after = counts.view(-1, size)
            self.tables.append((counts, after.sum(1), (after > 0).sum(1)))

    def nats(self, tokens: Tensor) -> Tensor:
        """-log p of strings (N, L), (N,), float64, with their end."""
        codes, counted = self._codes(tokens)
        p = torch.full(codes.shape, 1 / self.size, dtype=torch.float64)
        for n, (counts, totals, kinds) in enumerate(self.tables, 1):
            code = codes % self.size**n
            total, kind = totals[code // self.size], kinds[code // self.size]
            # where nothing was seen, shorter n-grams stand
            p = torch.where(total > 0, (counts[code] + kind * p) / (total + kind).clamp(min=1), p)
        return -(p.log() * counted).sum(1)

    def _codes(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """At each place (N, L + 1) the last n tokens as a number, and whether the place counts."""
        rows = pad(tokens.long(), (self.order - 1, 1))
        codes = torch.zeros(len(rows), tokens.shape[1] + 1, dtype=torch.long)
        for first in range(self.order):
            codes = codes * self.size + rows[:, first : first + codes.shape[1]]
        padding = (rows[:, self.order - 1 :] == 0).long()
        return codes, padding.cumsum(1) == padding
