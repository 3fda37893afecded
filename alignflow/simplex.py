r"""Flow maps on the simplex: logits of a mean denoiser, and what they are regressed on.

.. math::
    \delta_{s,t}(x) &= \mathrm{softmax}\, z_{s,t}(x), \qquad
    X_{s,t}(x) = \tfrac{1-t}{1-s}\, x + \tfrac{t-s}{1-s}\, \delta_{s,t}(x) \\
    \delta_{s,t} &= \gamma\, \delta_{s,u} + (1-\gamma)\, \delta_{u,t}(X_{s,u}), \qquad
    \gamma = \tfrac{(1-t)(u-s)}{(1-u)(t-s)}

States are (N, ..., V), with the data one-hot in the last axis. A velocity b at a state is regressed
as the denoiser x + (1-t) b, so that all targets are combinations of distributions and one-hot
tokens with coefficients that sum to 1.

Source: Flow Map Language Models (2602.16813); Discrete Flow Maps (2604.09784).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from alignflow import checks
from alignflow.interpolants import (
    average_velocity_from_mean_denoiser,
    denoiser_from_velocity,
    expand_time,
    flow_map_from_mean_denoiser,
)
from alignflow.predictions import Prediction
from alignflow.regressions import CrossEntropy

__all__ = [
    "Logits",
    "check_fixed_tokens",
    "one_hot_states",
    "semigroup_weight",
    "token_log_likelihood",
]

# a token is certain long before time 1; from here on its log-likelihood grows no more
LATEST = 0.99


class Logits(Prediction):
    """Logits z_{s,t}(x) of the mean denoiser softmax(z), learned by cross-entropy."""

    regression = robust = CrossEntropy()
    is_logits = True

    def predict(self, policy: Any, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        return policy.output(x, s, t, condition)

    def average_velocity(self, prediction: Tensor, x: Tensor, s: Tensor) -> Tensor:
        return average_velocity_from_mean_denoiser(x, s, prediction.softmax(-1))

    def jump(self, prediction: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return flow_map_from_mean_denoiser(x, s, t, prediction.softmax(-1))

    def target(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        # a gradient in a velocity may leave the plane of the simplex, where no logits can follow
        denoiser = denoiser_from_velocity(x, t, velocity)
        return denoiser - (denoiser.sum(-1, keepdim=True) - 1) / denoiser.shape[-1]

    def semigroup(
        self, first: Tensor, second: Tensor, fraction: Tensor, s: Tensor, u: Tensor, t: Tensor
    ) -> Tensor:
        weight = expand_time(semigroup_weight(s, u, t), first).to(first)
        return torch.lerp(second.softmax(-1), first.softmax(-1), weight)


def semigroup_weight(s: Tensor, u: Tensor, t: Tensor) -> Tensor:
    """gamma, (N,) in [0, 1], in float64, of times s <= u <= t; 1 where u = t."""
    s, u, t = s.double(), u.double(), t.double()
    length = (1 - u) * (t - s)
    return torch.where(length == 0, 1.0, (1 - t) * (u - s) / torch.where(length == 0, 1.0, length))


def token_log_likelihood(x: Tensor, t: Tensor) -> Tensor:
    """log p(x_t | token), (N, ..., V), up to a constant: t / (1-t)^2 x, from 0.99 on as there."""
    t = expand_time(t, x).clamp(max=LATEST)
    return t / (1 - t).square() * x


def one_hot_states(tokens: Tensor, size: int, dtype: torch.dtype | None = None) -> Tensor:
    """Tokens (N, ...) as states (N, ..., V).

    Args:
        tokens: Whole numbers from 0 to V - 1.
        size: V.
        dtype: Of the states; by default torch's.

    Raises:
        ValueError: If some are none of these numbers.
    """
    wanted = f"tokens must be whole numbers from 0 to {size - 1}"
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise ValueError(f"{wanted}, got {tokens.dtype}")
    if tokens.numel():
        least, most = (int(bound) for bound in tokens.aminmax())
        if least < 0 or most >= size:
            raise ValueError(f"{wanted}, got some from {least} to {most}")
    return one_hot(tokens.long(), size).to(dtype or torch.get_default_dtype())


def check_fixed_tokens(fixed: Any, length: int, size: int) -> None:
    """Refuse what are no fixed tokens of L positions; on a GPU the numbers are not looked at.

    Args:
        fixed: Whole numbers from 0 to V - 1, or -1 where a token is free, (L,) or (N, L).
        length: L.
        size: V.

    Raises:
        ValueError: If they are of another kind or shape.
    """
    wanted = f"fixed tokens must be whole numbers from -1 (free) to {size - 1}, (N, {length})"
    whole = isinstance(fixed, Tensor) and fixed.dtype in (torch.int64, torch.int32, torch.int16)
    if not whole or fixed.ndim not in (1, 2) or fixed.shape[-1] != length:
        raise ValueError(f"{wanted}; got {checks.shown(fixed)}")
    if fixed.device.type != "cpu" or torch.compiler.is_compiling() or not fixed.numel():
        return
    least, most = (int(bound) for bound in fixed.aminmax())
    if least < -1 or most >= size:
        raise ValueError(f"{wanted}; got some from {least} to {most}")
