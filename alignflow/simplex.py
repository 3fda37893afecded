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

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from alignflow import checks
from alignflow.cross_entropy import mix_softmax_
from alignflow.draws import choices
from alignflow.interpolants import (
    Interpolant,
    Linear,
    average_velocity_from_mean_denoiser,
    denoiser_from_velocity,
    expand_time,
    flow_map_from_mean_denoiser,
)
from alignflow.predictions import Prediction
from alignflow.regressions import FrugalCrossEntropy, SoftTarget

__all__ = [
    "Logits",
    "check_fixed_tokens",
    "check_tokens",
    "draw_tokens",
    "one_hot_states",
    "semigroup_weight",
    "token_log_likelihood",
]

# a token is certain long before time 1; from here on its log-likelihood grows no more
LATEST = 0.99
SLACK = 1e-3  # rounding may push a probability this far below 0


class Logits(Prediction):
    """Logits z_{s,t}(x) of the mean denoiser softmax(z), learned by cross-entropy.

    Data may be tokens (N, ...) in place of one-hot states.
    """

    regression = robust = FrugalCrossEntropy()
    is_logits = True

    def predict(self, policy: Any, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        return policy.output(x, s, t, condition)

    def average_velocity(self, prediction: Tensor, x: Tensor, s: Tensor) -> Tensor:
        return average_velocity_from_mean_denoiser(x, s, prediction.softmax(-1))

    def jump(self, prediction: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        # late, for the import of Triton takes long
        from alignflow.kernels import simplex_step

        return simplex_step(prediction, x, s, t)

    def target(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        # a gradient in a velocity may leave the plane of the simplex, where no logits can follow
        denoiser = denoiser_from_velocity(x, t, velocity)
        return denoiser.sub_((denoiser.sum(-1, keepdim=True) - 1) / denoiser.shape[-1])

    def state(self, path: Interpolant, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        if x1.is_floating_point():
            return path.state(x0, x1, t)
        if not isinstance(path, Linear):
            raise ValueError("tokens are noised along the linear path: give one-hot states instead")
        data = expand_time(t, x0).expand(*x1.shape, 1)
        return ((1 - expand_time(t, x0)) * x0).scatter_add_(-1, x1[..., None], data)

    def anchor(self, path: Interpolant, x0: Tensor, x1: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return super().anchor(path, x0, x1, x, t) if x1.is_floating_point() else x1

    def through(
        self,
        predict: Callable[[Tensor, Tensor, Tensor], Tensor],
        x: Tensor,
        fraction: Tensor,
        s: Tensor,
        u: Tensor,
        t: Tensor,
    ) -> Tensor | SoftTarget:
        if torch.is_grad_enabled():
            return super().through(predict, x, fraction, s, u, t)
        # late, for the import of Triton takes long
        from alignflow.kernels.backend import runs_triton

        weight = semigroup_weight(s, u, t)
        if runs_triton(x):
            first = predict(x, s, u)
            return SoftTarget(first, predict(self.jump(first, x, s, u), u, t), weight)
        # one distribution is held, and one prediction beside it
        delta = predict(x, s, u).softmax(-1)
        second = predict(flow_map_from_mean_denoiser(x, s, u, delta), u, t)
        return mix_softmax_(delta, second, expand_time(weight, x).to(x))

    def semigroup(
        self, first: Tensor, second: Tensor, fraction: Tensor, s: Tensor, u: Tensor, t: Tensor
    ) -> Tensor:
        return SoftTarget(first, second, semigroup_weight(s, u, t)).distribution()


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
    check_tokens(tokens, size)
    return one_hot(tokens.long(), size).to(dtype or torch.get_default_dtype())


def check_tokens(tokens: Tensor, size: int) -> None:
    """Refuse what are no whole numbers from 0 to V - 1."""
    wanted = f"tokens must be whole numbers from 0 to {size - 1}"
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise ValueError(f"{wanted}, got {tokens.dtype}")
    if tokens.numel():
        least, most = (int(bound) for bound in tokens.aminmax())
        if least < 0 or most >= size:
            raise ValueError(f"{wanted}, got some from {least} to {most}")


def draw_tokens(
    probabilities: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Tokens (N, L), independent, by probabilities (N, L, V) to the power 1 / temperature.

    Args:
        probabilities: Of each position, up to a factor.
        temperature: Above 0.
        generator: Source of the draws.

    Raises:
        ValueError: If they are of another shape, not finite, below 0, or all 0 at a position.
    """
    temperature = checks.positive("temperature", temperature)
    if not probabilities.is_floating_point() or probabilities.ndim != 3:
        raise ValueError(
            "probabilities must be floats of positions and tokens, (N, L, V), got "
            f"{probabilities.dtype} of shape {tuple(probabilities.shape)}"
        )
    if not torch.isfinite(probabilities).all():
        raise ValueError("probabilities of tokens must be finite, got NaN or infinity among them")
    if probabilities.min() < -SLACK or probabilities.amax(-1).min() <= 0:
        raise ValueError(
            "probabilities must be floats of at least 0 with one above 0 at each position, "
            f"got some of {probabilities.min().item():.3g}"
        )
    log = probabilities.double().clamp(min=0).log()
    log = (log - log.amax(-1, keepdim=True)) / temperature
    return choices(log.softmax(-1).flatten(0, 1), 1, generator).view(probabilities.shape[:2])


def check_fixed_tokens(condition: Any, event_shape: Sequence[int]) -> None:
    """Refuse what are no fixed tokens (N, L), -1 where free, of states (L, V).

    On a GPU the numbers are not looked at.

    Raises:
        ValueError: If they are no whole numbers from -1 to V - 1, or of another shape.
    """
    length, size = event_shape
    wanted = f"a condition of fixed tokens must be whole numbers (N, {length}), -1 where free"
    if not isinstance(condition, Tensor) or condition.ndim != 2 or condition.shape[1] != length:
        texts = isinstance(condition, str | list)
        way = ": a vocabulary's template writes them" if texts else ""
        raise ValueError(f"{wanted}, got {checks.shown(condition)}{way}")
    if condition.is_floating_point() or condition.is_complex() or condition.dtype == torch.bool:
        raise ValueError(f"{wanted}, got {condition.dtype}")
    if condition.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if condition.numel():
        least, most = (int(bound) for bound in condition.aminmax())
        if least < -1 or most >= size:
            raise ValueError(f"{wanted}, and below {size}, got some from {least} to {most}")
