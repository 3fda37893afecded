"""The base class of exact targets: samples, tilts and values in closed form."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import as_time
from alignflow.reward_module import Reward
from alignflow.tilt import Tilt

from .signed_tilt import as_signed_tilt

__all__ = ["ExactFlowMap", "TiltLike"]

TiltLike = Tilt | Reward | Callable[..., Any] | Tensor
"""A tensor is of rewards, where the target has stored rows that they can be of."""


class ExactFlowMap(FlowMap):
    """A flow map that samples without error and knows its tilts.

    A tilt is given as `Tilt`, or as a reward and its strength of either sign. Subclasses implement
    `_draws`, `_tilted`, `_value` and `_value_gradient`.

    Attributes:
        no_condition: Why it takes no condition, for errors.
        conditional: Whether it takes one, and draws of its posterior do.
    """

    no_condition = "this target takes no condition"
    conditional = False

    @checks.refuse_seed
    def sample(
        self,
        n,
        steps=None,
        condition=None,
        guidance=1.0,
        generator=None,
        grid=None,
        differentiable=False,
        sampler=None,
        strength=None,
    ):
        """n independent exact draws, (n, *E), or those of a sampler.

        Steps, guidance and grid are taken as every flow map takes them; without a sampler none has
        an effect.
        """
        if sampler is not None:
            steps = 4 if steps is None else steps
            given = condition, guidance, generator, grid, differentiable, sampler, strength
            return super().sample(n, steps, *given)
        condition = self.with_strength(condition, strength)
        self._refuse_condition(condition)
        n, generator = checks.count("n", n), checks.as_generator(generator)
        if condition is not None:
            return self._conditional_draws(condition, n, generator)
        return self._draws(n, generator)

    def tilted(self, reward: TiltLike, strength: float | None = None) -> Any:
        r"""The distribution proportional to exp(strength r(x)) rho_1(x).

        Args:
            reward: A tilt, or a reward beside its strength; what rewards are taken, the class says.
            strength: lambda, of either sign; None beside a tilt.

        Raises:
            ValueError: If there is no such distribution, or none that can be had exactly.
        """
        return self._tilted(self._as_tilt(reward, strength))

    def value(
        self, x: Tensor, t: float | Tensor, reward: TiltLike, strength: float | None = None
    ) -> Tensor:
        r"""V_t(x) = log E[exp(strength r(x1)) | x_t = x], (N,), for any t in [0, 1].

        Args:
            x: State at time t, (N, *E).
            t: Number or (N,).
            reward: As in `tilted`.
            strength: As in `tilted`.
        """
        return self._value(x, self._time(x, t), self._as_tilt(reward, strength))

    def value_gradient(
        self, x: Tensor, t: float | Tensor, reward: TiltLike, strength: float | None = None
    ) -> Tensor:
        """grad V_t(x), (N, *E); arguments as in `value`."""
        return self._value_gradient(x, self._time(x, t), self._as_tilt(reward, strength))

    def _as_tilt(self, reward: TiltLike, strength: float | None) -> Tilt:
        """The tilt that the arguments of `tilted` and `value` name."""
        return as_signed_tilt(reward, strength)

    def _draws(self, n: int, generator: torch.Generator | None) -> Tensor:
        """What `sample` returns."""
        raise NotImplementedError

    def _conditional_draws(
        self, condition: Any, n: int, generator: torch.Generator | None
    ) -> Tensor:
        """What `sample` returns of a target that takes conditions."""
        raise NotImplementedError

    def _tilted(self, tilt: Tilt) -> Any:
        """What `tilted` returns."""
        raise NotImplementedError

    def _value(self, x: Tensor, time: Tensor, tilt: Tilt) -> Tensor:
        """What `value` returns, at times (N,)."""
        raise NotImplementedError

    def _value_gradient(self, x: Tensor, time: Tensor, tilt: Tilt) -> Tensor:
        """What `value_gradient` returns, at times (N,)."""
        raise NotImplementedError

    def _time(self, x: Tensor, t: float | Tensor, condition: Any = None) -> Tensor:
        """Times (N,) of states that are checked, and of no condition."""
        self._refuse_condition(condition)
        self.check_state(x)
        return as_time(t, x)

    def _refuse_condition(self, condition: Any) -> None:
        """Refuse any condition but None, of a target that takes none."""
        if condition is not None and not self.conditional:
            raise ValueError(self.no_condition)
