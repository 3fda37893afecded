r"""Guidance of the velocity by posterior draws: b* = b + c_t grad V, or without a gradient.

.. math::
    b^*_t = b_t + c_t \nabla V_t = \frac{E[x_1 e^{\lambda r} | x_t] / E[e^{\lambda r} | x_t] - x_t}
    {1-t}, \qquad c_t = \frac{1-t}{t}

The recipes differ in what draws x_1, and in which of the two forms is estimated.
"""

from dataclasses import dataclass
from typing import Any

from alignflow import checks
from alignflow.corrections import TiltCorrection
from alignflow.settings import option

from ..nodes import Nodes
from ..registry import Choice, build_posterior, build_transition, build_value
from .base import (
    Recipe,
    by_gradient,
    draws_option,
    inner_steps_option,
    posterior_option,
    solver_option,
    t_min_option,
    transition_option,
    value_option,
)

__all__ = ["DPS", "GLASS", "LGD", "MFMG", "MFMGF", "Exact", "WeightedDiamond"]


@dataclass(frozen=True, kw_only=True)
class DPS(Recipe):
    r"""Velocity plus c_t grad(strength r(D_t(x))) (DPS, 2209.14687): biased.

    The posterior is a point at its mean, the denoiser.
    """

    name = "dps"

    t_min: float = t_min_option(0.01)
    transition: Choice = transition_option("euler")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior("denoiser", model),
            value=build_value("gradient", model, tilt),
            corrections=(TiltCorrection(),),
            transition=build_transition(self.transition, model),
            t_min=self.t_min,
        )


@dataclass(frozen=True, kw_only=True)
class LGD(Recipe):
    r"""Velocity plus c_t grad of the value under a Gaussian posterior (LGD): biased.

    .. math:: z_k = D_t + r_t \epsilon_k, \qquad r_t^2 = (1-t)^2 / (t^2 + (1-t)^2)

    Source: Song et al. 2023.
    """

    name = "lgd"

    draws: int = draws_option(8)
    t_min: float = t_min_option(0.01)
    transition: Choice = transition_option("euler")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior("gaussian", model, self.draws),
            value=build_value("gradient", model, tilt),
            corrections=(TiltCorrection(),),
            transition=build_transition(self.transition, model),
            t_min=self.t_min,
        )


@dataclass(frozen=True, kw_only=True)
class MFMG(Recipe):
    r"""Velocity plus c_t grad of the value, draws by a stochastic map (MFM-G, 2601.14430).

    .. math:: \nabla V_t \approx \sum_k w_k \nabla_x \lambda r(X_{0,1}(\epsilon_k; t, x)),
        \qquad w = \mathrm{softmax}(\lambda r)
    """

    name = "mfm_g"

    posterior: Choice = posterior_option("stochastic_map")
    draws: int = draws_option(8)
    t_min: float = t_min_option(0.01)
    transition: Choice = transition_option("euler")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior(self.posterior, model, self.draws),
            value=build_value("gradient", model, tilt),
            corrections=(TiltCorrection(),),
            transition=build_transition(self.transition, model),
            t_min=self.t_min,
        )


@dataclass(frozen=True, kw_only=True)
class MFMGF(Recipe):
    r"""Tilted velocity without gradients, draws by a stochastic map (MFM-GF, 2601.14430).

    .. math:: b^* = b + \frac{\sum_k w_k z_k - \frac1K \sum_k z_k}{1-t},
        \qquad w = \mathrm{softmax}(\lambda r(z))
    """

    name = "mfm_gf"

    posterior: Choice = posterior_option("stochastic_map")
    draws: int = draws_option(16)
    transition: Choice = transition_option("euler")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior(self.posterior, model, self.draws),
            value=build_value("gradient_free", model, tilt),
            transition=build_transition(self.transition, model),
        )


@dataclass(frozen=True, kw_only=True)
class GLASS(Recipe):
    """Tilted velocity from draws of any model's posterior (GLASS, 2509.25170): consistent.

    The draws are of an inner flow of the pretrained denoiser, exact as its steps grow.
    """

    name = "glass"

    draws: int = draws_option(16)
    inner_steps: int = inner_steps_option()
    solver: str = solver_option()
    value: Choice = value_option("gradient_free")
    t_min: float = t_min_option(0.0, checks.fraction)
    transition: Choice = transition_option("euler")

    def nodes(self, model, tilt):
        numbers = {"inner_steps": self.inner_steps, "solver": self.solver}
        return Nodes(
            posterior=build_posterior("glass", model, self.draws, **numbers),
            value=build_value(self.value, model, tilt),
            corrections=by_gradient(self.value),
            transition=build_transition(self.transition, model),
            t_min=self.t_min,
        )


@dataclass(frozen=True, kw_only=True)
class WeightedDiamond(Recipe):
    """Tilted velocity from weighted renoised draws of any flow map (2602.05993): consistent.

    States are renoised to a lower time, carried to the end by the flow map, and weighted; see
    `RenoisedPosterior`. The paper's value is `gradient`, which is noisy at early times, and that of
    the authors' release is `reward_softmax`, which is not consistent.
    """

    name = "weighted_diamond"

    draws: int = draws_option(16)
    snr_ratio: float = option(
        5.0, "by how much the signal-to-noise ratio falls as states are renoised"
    )
    value: Choice = value_option("gradient_free")
    t_min: float = t_min_option(0.0, checks.fraction)
    transition: Choice = transition_option("euler")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior("renoised", model, self.draws, snr_ratio=self.snr_ratio),
            value=build_value(self.value, model, tilt),
            corrections=by_gradient(self.value),
            transition=build_transition(self.transition, model),
            t_min=self.t_min,
        )


@dataclass(frozen=True, kw_only=True)
class Exact(Recipe):
    """Tilted velocity from exact draws of a target, e.g. of stored data: consistent.

    Without a target the model itself is one, as those of `alignflow.targets` are.
    """

    name = "exact"

    target: Any = option(None, "what has posterior_sample; the policy itself if None")
    draws: int = draws_option(64)
    transition: Choice = transition_option("euler")

    def nodes(self, model, tilt):
        return Nodes(
            posterior=build_posterior("exact", model, self.draws, target=self.target),
            value=build_value("gradient_free", model, tilt),
            transition=build_transition(self.transition, model),
        )
