r"""A stored data set as an exact model: its flow, posterior, value and tilt, over all of its rows.

.. math:: p(x_1 = x_i \mid x_t) = \mathrm{softmax}_i \Big( w_i
    - \frac{|x_t - t x_i|^2}{2 (1-t)^2} \Big)

A mean costs two matrix products with the data, streamed over chunks of rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import check_rows, rows_of
from alignflow.data.images import Images
from alignflow.flow_map import FlowMap
from alignflow.interpolants import as_time, expand_time
from alignflow.ode import integrate
from alignflow.reward_module import Reward, as_reward
from alignflow.tilt import Tilt

from .exact import ExactFlowMap, TiltLike
from .row_distributions import RowDistributions
from .row_posterior import log_marginal, noise_level, row_posterior
from .stored_rows import StoredRows, check_log_weight, stored_rows

__all__ = ["STRAIGHT", "Empirical"]

# from here on paths are taken as straight: rows within a few 0.001 of each other count as one
STRAIGHT = 0.999


class Empirical(ExactFlowMap):
    """The empirical distribution of a data set's rows: all but its flow map is exact.

    Data stay as they are given. Sums run over chunks in float32, or in float64 where states or data
    are float64 or the posterior is too sharp for float32 (late times). At time 1 the posterior is
    the nearest row, shared by weight among equal ones. What depends on the state has a gradient in
    the state and the time; draws have none.

    A tilt is the same rows with other weights. In place of a reward, tilts and values also take
    `rewards` of the stored rows, so that these are scored only once.

    Args:
        data: (N, *E), floats, or uint8 for pixels, which are states in [-1, 1]; or `Images`.
        log_weight: w, (N,), up to a constant; equal weights by default. -inf leaves a row out.
        chunk: Rows read at once: memory is that of (chunk, D) and (B, chunk).
        decode: Of states, for rewards; by default images in [0, 1] for pixels, else the states.

    Raises:
        ValueError: If data, weights or chunk are not what they must be.
    """

    no_condition = (
        "an empirical distribution takes no condition: build one of the rows that satisfy it, "
        "Empirical(images.select(rows))"
    )

    data: Tensor
    log_weight: Tensor

    def __init__(
        self,
        data: Tensor | Images,
        log_weight: Tensor | None = None,
        chunk: int = 1024,
        decode: Callable[[Tensor], Any] | None = None,
    ):
        data = data.pixels if isinstance(data, Images) else checks.as_tensor("data", data)
        if data.ndim < 2:
            raise ValueError(f"data must be rows of states (N, *E), got {checks.shown(data)}")
        super().__init__(data.shape[1:])
        weight = torch.zeros(len(data)) if log_weight is None else log_weight
        self.rows = self._stored(data, checks.as_tensor("log_weight", weight), chunk)
        self.decoder = decode
        self.register_buffer("data", data)
        self.register_buffer("log_weight", self.rows.log_weight)

    @classmethod
    def of_draws(cls, target: FlowMap, n: int, seed: int = 0) -> Self:
        """Of n draws of another target; states are decoded as there."""
        drawn = target.sample(n, generator=checks.as_generator(seed, "seed"))
        return cls(drawn, decode=target.decode)

    def velocity(self, x, t, condition=None):
        """b_t(x) = E[x1 - x0 | x_t = x], (N, *E); at time 1, where x0 is any noise, the row."""
        time = self._time(x, t, condition)
        gap = expand_time(1 - time, x)
        mean = self._posterior(x, time, condition).mean().reshape(x.shape)
        before = (mean - x) / torch.where(gap > 0, gap, 1.0)
        return torch.where(gap > 0, before, mean).to(x)

    def denoiser(self, x, t, condition=None):
        """E[x1 | x_t = x], (N, *E)."""
        posterior = self._posterior(x, self._time(x, t, condition), condition)
        return posterior.mean().reshape(x.shape).to(x)

    def flow_map(self, x, s, t, condition=None):
        """X_{s,t}(x), (N, *E), by the ODE, and along a straight line from time 0.999 on.

        Raises:
            ValueError: If some t < s although s is later than that: paths have met in the rows.
        """
        start, end = self._time(x, s, condition).to(x), self._time(x, t).to(x)
        late = start > STRAIGHT
        if (late & (end < start)).any():
            raise ValueError(f"the flow of a data set cannot be inverted from times > {STRAIGHT}")
        bend = torch.where(late, start, end.clamp(max=STRAIGHT))
        x = self._follow(x, start, bend, condition)
        return x + expand_time(end - bend, x) * self.velocity(x, bend, condition)

    def decode(self, x):
        if self.decoder is not None:
            return self.decoder(x)
        return ((x + 1) / 2).clamp(0, 1) if self.data.dtype == torch.uint8 else x

    def log_density(self, x: Tensor, t: float | Tensor) -> Tensor:
        """log rho_t(x), (N,), in nats.

        Raises:
            ValueError: If some t is 1, where the distribution has no density.
        """
        time = self._time(x, t)
        if (time >= 1).any():
            raise ValueError("at time 1 the distribution of a data set has no density")
        return log_marginal(self.rows, x.flatten(1), time).to(x)

    def posterior_sample(
        self,
        x: Tensor,
        t: float | Tensor,
        k: int,
        generator: torch.Generator | int | None = None,
        condition: Any = None,
    ) -> Tensor:
        """k independent exact draws of p(x1 | x_t) for each state, (N, k, *E)."""
        k, generator = checks.count("k", k), checks.as_generator(generator)
        with torch.no_grad():
            time = self._time(x, t, condition)
            drawn = self._posterior(x, time, condition).draw(k, generator)
        return self.rows.states(drawn).to(x)

    def posterior_mean(
        self, x: Tensor, t: float | Tensor, values: Tensor, condition: Any = None
    ) -> Tensor:
        """E[f(x1) | x_t = x], (N, *F), from the values (rows, *F) of f at the stored rows."""
        if len(values) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows need as many values, got {len(values)}")
        time = self._time(x, t, condition)
        return self._posterior(x, time, condition).expectation(values).to(x)

    def rewards(self, reward: Reward | Callable[..., Any], condition=None) -> Tensor:
        """Rewards (rows,) of the stored rows, scored a chunk at a time.

        Args:
            reward: Any reward.
            condition: For the reward: one for all rows, or one for each.
        """
        reward = as_reward(reward)
        check_rows(condition, len(self.rows))
        scores = []
        with torch.no_grad():
            for part in self.rows.parts():
                given = rows_of(condition, part, len(self.rows))
                scores.append(reward.score(self.rows.states(part), given, self.decode))
        return torch.cat(scores)

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.data.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the states: float64 where the data are, else float32."""
        return self.rows.dtype

    def _apply(self, fn, recurse=True):
        # all moves and casts of a module pass here; the rows are then those of the buffers as moved
        super()._apply(fn, recurse)
        self.rows = self._stored(self.data, self.log_weight, self.rows.chunk)
        return self

    def _stored(self, data: Tensor, log_weight: Tensor, chunk: int) -> StoredRows:
        """The rows that the buffers hold."""
        return stored_rows(data, log_weight, chunk)

    def _follow(self, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The flow from s to t, (N,), neither of them late, by its ODE."""
        return integrate(self.velocity, x, s, t)

    def _draws(self, n: int, generator: torch.Generator | None) -> Tensor:
        anywhere = self.data.new_zeros((1, *self.event_shape), dtype=self.dtype)
        return self.posterior_sample(anywhere, 0.0, n, generator)[0]

    def _tilted(self, tilt: Tilt) -> Self:
        log_weight = self._tilted_log_weight(tilt)
        return type(self)(self.data, log_weight, self.rows.chunk, self.decoder)

    def _value(self, x: Tensor, time: Tensor, tilt: Tilt) -> Tensor:
        base, tilted = self._base_and_tilted(x, time, tilt)
        return (tilted.log_normalizer() - base.log_normalizer()).to(x)

    def _value_gradient(self, x: Tensor, time: Tensor, tilt: Tilt) -> Tensor:
        # how far the tilt moves the denoiser, times t / (1-t)^2
        base, tilted = self._base_and_tilted(x, time, tilt)
        factor = (time / noise_level(self.rows, time).square())[:, None]
        return (factor * (tilted.mean() - base.mean())).reshape(x.shape).to(x)

    def _as_tilt(self, reward: TiltLike, strength: float | None) -> Tilt:
        known = isinstance(reward, Tensor)
        return super()._as_tilt(_KnownRewards(reward) if known else reward, strength)

    def _posterior(self, x: Tensor, time: Tensor, condition: Any = None) -> RowDistributions:
        return row_posterior(self.rows, x.flatten(1), time)

    def _base_and_tilted(
        self, x: Tensor, time: Tensor, tilt: Tilt
    ) -> tuple[RowDistributions, RowDistributions]:
        rows = replace(self.rows, log_weight=self._tilted_log_weight(tilt))
        # both in the precision that the tilted one needs, for their difference is asked
        tilted = row_posterior(rows, x.flatten(1), time)
        return replace(tilted, rows=self.rows), tilted

    def _tilted_log_weight(self, tilt: Tilt) -> Tensor:
        known = tilt.reward.function
        rewards = known.values if isinstance(known, _KnownRewards) else self.rewards(tilt.reward)
        if rewards.shape != self.log_weight.shape:
            raise ValueError(
                f"rewards of {len(self.rows)} rows must be of shape ({len(self.rows)},), "
                f"got {tuple(rewards.shape)}"
            )
        log_weight = self.rows.log_weight + tilt.log_weight(rewards.to(self.rows.log_weight))
        check_log_weight(log_weight, len(self.rows))
        return log_weight

    def _time(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        super()._time(x, t, condition)
        return as_time(t, x.double())  # where 1 - t keeps its digits


@dataclass(frozen=True)
class _KnownRewards:
    """Rewards (rows,) of the stored rows, in place of the reward that gave them."""

    values: Tensor

    def __call__(self, endpoint: Any) -> Tensor:
        raise ValueError("these are rewards of stored rows, not of other states")
