r"""Renoised draws with importance weights: the posterior from a deterministic flow map alone.

.. math::
    x'_i = \frac{t'}{t} x_t + q\,\epsilon_i, \quad q^2 = (1-t')^2 - \tfrac{t'^2}{t^2} (1-t)^2,
    \qquad z_i = X_{t',1}(x'_i), \\
    l_i = -\frac{|x_t - t z_i|^2}{2 (1-t)^2} + \log\frac{\rho_{t'}(x'_i)}{\rho_{t'}(x_t)}
    + \frac{|\epsilon_i|^2}{2}

Consistent as draws grow. A network has no density: its log-ratio is taken by the trapezoid of the
scores at both ends, a bias that is gone for practical purposes from a `snr_ratio` of 5 on.

Source: Weighted Diamond (2602.05993); their released weights by the reward alone are the value
estimator `RewardSoftmaxGradient`.
"""

from collections.abc import Callable

from torch import Tensor

from alignflow import checks
from alignflow.conditions import repeat_rows
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time, score_from_velocity

from .base import DrawnPosterior

__all__ = ["RenoisedPosterior"]


class RenoisedPosterior(DrawnPosterior):
    """Draws X_{t',1}(x') of states taken back to a lower time t', with their log-weights.

    Args:
        model: The frozen flow map.
        draws: K, endpoints of each row.
        snr_ratio: By how much the signal-to-noise ratio falls from t to t', above 1. The larger,
            the wider the draws, and the lower their effective sample size.
        log_density: A callable (x, t) -> log rho_t(x), for models that know it; None takes the
            trapezoid.
    """

    writes = ("endpoint", "endpoint_log_weight")

    def __init__(
        self,
        model: FlowMap,
        draws: int = 1,
        snr_ratio: float = 5.0,
        log_density: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__(model, draws)
        self.snr_ratio, self.log_density = checks.finite("snr_ratio", snr_ratio), log_density
        if self.snr_ratio <= 1:
            raise ValueError(f"snr_ratio must be above 1, or nothing is renoised, got {snr_ratio}")

    def forward(self, tensordict):
        noise = self.read(tensordict, "endpoint_noise")
        state, time, condition = self.rows(tensordict)
        draws, shrink = noise.shape[1], 1 / (time + self.snr_ratio**0.5 * (1 - time))  # t'/t
        lower = shrink * time
        std = ((1 - lower).square() - (shrink * (1 - time)).square()).sqrt()
        renoised = expand_time(shrink, noise) * state.unsqueeze(1)
        renoised = renoised + expand_time(std, noise) * noise

        flat, when = renoised.flatten(0, 1), lower.repeat_interleave(draws)
        labels = repeat_rows(condition, draws)
        endpoint = self.model.flow_map(flat, when, 1.0, labels).unflatten(0, (-1, draws))
        score = self._score(flat.detach(), when, labels).unflatten(0, (-1, draws))
        misfit = state.unsqueeze(1) - expand_time(time, endpoint) * endpoint
        misfit = misfit.flatten(2).square().sum(2) / (2 * (1 - time).square().unsqueeze(1))
        log_weight = noise.flatten(2).square().sum(2) / 2 - misfit
        log_weight = log_weight + self._log_ratio(state, lower, condition, renoised, score)
        return self.write(tensordict, endpoint=endpoint, endpoint_log_weight=log_weight)

    def _log_ratio(self, state, lower, condition, renoised: Tensor, score: Tensor) -> Tensor:
        """log rho_{t'}(x'_i) up to a constant of the row, (B, K), whose gradient is the score."""
        point, draws = renoised.detach(), renoised.shape[1]
        if self.log_density is not None:
            flat = self.log_density(point.flatten(0, 1), lower.repeat_interleave(draws))
            value = flat.unflatten(0, (-1, draws))
        else:
            base = state.detach()
            mean = (self._score(base, lower, condition).unsqueeze(1) + score) / 2
            value = (mean * (point - base.unsqueeze(1))).flatten(2).sum(2)
        # no second derivatives of the network: the gradient of log rho is the score itself
        return value + (score * (renoised - point)).flatten(2).sum(2)

    def _score(self, x: Tensor, t: Tensor, condition) -> Tensor:
        velocity = self.model.velocity(x, t, condition).detach()
        return score_from_velocity(x, t, velocity)

    def extra_repr(self) -> str:
        return f"draws={self.draws}, snr_ratio={self.snr_ratio:g}"
