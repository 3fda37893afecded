r"""A jump of the inner flow to the posterior, by a jump of the flow map itself.

The inner state :math:`y_s = s\, x_1 + (1-s)\, \epsilon` and the context :math:`x_t` are two
observations of one data point. Combined they are one at a later time, and a jump of the inner flow
is one of the flow from there. On the diagonal that is exact for any data, with the weights of
`combined_look`. A jump to the end of the inner flow must keep the noise of its start, which a draw
is made of; so the weights of :math:`y_s \to y_u` are those that are exact for data of a known std,
N(m, c^2 I), at the start and the end of the path:

.. math::
    y = \frac{w_x\, x_t + w_y\, y_s}{t w_x + s w_y + e (1-s)}, \quad
    w_x = (1-s)\, k\, (\sigma_s - s h), \quad w_y = \sigma_s + (1-s)\, h, \quad
    h = \frac{(u+s)\, q - (2-u-s)}{\sigma_s + \sigma_u}

with the posterior's mean k x_t and variance q, :math:`\sigma_s^2 = s^2 q + (1-s)^2`, and
:math:`e (1-s)` the std of the noise in the numerator. From s = 0 to u = 1 this adds to x_t as
much noise as makes the jump of a flow map a draw of the posterior.
"""

import torch
from torch import Tensor

from alignflow.interpolants import expand_time

__all__ = ["InnerLook"]

TINY = 1e-12  # where everything is known, at t = s = 1, the quotients are 0/0


class InnerLook:
    """Where the flow map is evaluated for a jump of the inner flow, and the conversion back.

    Args:
        x: Inner states, (N, *E).
        s: Inner start, (N,).
        u: Inner end, (N,).
        state: What the posterior is given, (N, *E).
        time: Its time, (N,).
        std: c, of the data.

    Attributes:
        state: (N, *E).
        start: Time of the state, (N,).
        end: Time that the jump leads to, (N,).
    """

    def __init__(self, x: Tensor, s: Tensor, u: Tensor, state: Tensor, time: Tensor, std: float):
        variance = std**2
        prior = variance * time.square() + (1 - time).square()
        q = variance * (1 - time).square() / prior
        sigma_s, sigma_u = ((r.square() * q + (1 - r).square()).sqrt() for r in (s, u))
        h = ((u + s) * q - (2 - u - s)) / (sigma_s + sigma_u + TINY)
        of_state = variance * time / prior * (sigma_s - s * h)  # w_x / (1-s)
        of_inner = (sigma_s + (1 - s) * h).clamp_min(0)
        noise = torch.hypot(of_state * (1 - time), of_inner)
        signal = (1 - s) * of_state * time + of_inner * s
        total = signal + (1 - s) * noise + TINY
        self.start = signal / total
        self.end = torch.maximum(_combined(time, u), self.start)
        of_state, of_inner, noise = (expand_time(w / total, x) for w in (of_state, of_inner, noise))
        self.state = expand_time(1 - s, x) * of_state * state + of_inner * x
        # (self.state + (1 - start) average - x) / (1-s) with the division done, so that s may be 1
        self._scale = noise
        self._offset = of_state * (state - expand_time(time, x) * x) + (of_inner - noise) * x

    def velocity(self, average: Tensor) -> Tensor:
        """The inner flow's average velocity, (N, *E), from the flow map's at `state`, (N, *E)."""
        return self._offset + self._scale * average


def _combined(t: Tensor, u: Tensor) -> Tensor:
    """Time of the one observation equivalent to two at times t and u."""
    d = torch.hypot(t * (1 - u), u * (1 - t))
    return d / (d + (1 - t) * (1 - u) + TINY)
