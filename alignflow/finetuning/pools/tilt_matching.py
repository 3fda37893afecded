r"""Tilt matching: the velocity regressed on a target made of an endpoint and its weight.

With d = x1 - x0, the base's velocity b, and w = e^{lambda r} / E e^{lambda r} of the endpoint,

.. math:: \text{ETM:}\quad & b + (\lambda r - \overline{\lambda r})\, (d - b) \\
    \text{ITM, TiltMatching:}\quad & d - \frac{c}{w}\,(d - b), \quad x_1 \sim w \rho_1

Rewards are scored once and never differentiated. Endpoints must come from the model whose velocity
b is, or the fixed point is not the tilt; here both are the base.

ETM is an Euler step of the tilt's differential equation in its strength,
:math:`d b_\lambda / d\lambda = \mathbb{E}_\lambda[(r - \bar r)(d - b_\lambda) | x_t]`: of first
order, so that a strong tilt is reached in annealing stages, whose error falls as one over their
number.

For the others, d - b has mean 0 at every state under the base, so (d - b) / w has under the tilt,
and any constant c has the tilt as its fixed point: c = 0 is weighted flow matching, and c = 1, ITM,
lowers the variance while w is near 1. TiltMatching estimates the c of least variance,

.. math:: c^* = \frac{\mathbb{E}\,\langle d - b_\theta, v \rangle}{\mathbb{E}\,|v|^2}, \qquad
    v = \frac{d - b}{w}

as a running ratio. Published, endpoints are the base's and the target is
b_theta + w (d - b_theta) - c (d - b), which has the same gradient in mean. But where all endpoints
have no weight it is the model's velocity less c (d - b): nothing holds it there, and the base's
error, divided by E[w | x_t], drives it away. So c is bounded by the least weight, and rows are
drawn by theirs: the target is then data and the base, with bounded coefficients, and the base's
error enters it no more than `MOST` times.

Source: Tilt Matching (2512.21829): ETM, and ITM with weights normalized so that a constant reward
does nothing.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor, nn

from alignflow import checks
from alignflow.finetuning.problem import Problem
from alignflow.interpolants import expand_time
from alignflow.settings import option

from .strength_pool import STRATA, StrengthPool
from .velocity_matching import PathBatch, VelocityMatching, VelocityMatchingTuner

__all__ = ["ETM", "ITM", "ControlVariate", "TiltMatching", "WeightedVelocityTuner"]

MOST = 4.0  # of c over the weight of a row


def _coefficient(name: str, value: float) -> float:
    return checks.fraction(name, value, one=False)


@dataclass(frozen=True, kw_only=True)
class ETM(VelocityMatching):
    """Explicit tilt matching, of first order in the strength: in 8 annealing stages by default."""

    stages = 8

    def bind(self, problem: Problem) -> "ETMTuner":
        return ETMTuner(problem, self)


@dataclass(frozen=True, kw_only=True)
class ITM(VelocityMatching):
    """Implicit tilt matching; weighted flow matching where some of the base has no weight."""

    def bind(self, problem: Problem) -> "ITMTuner":
        return ITMTuner(problem, self)


@dataclass(frozen=True, kw_only=True)
class TiltMatching(VelocityMatching):
    """Tilt matching with the control variate of least variance, estimated as it goes."""

    memory: float = option(
        0.99,
        "decay of the control variate's running estimate; 0.99 remembers about 100 batches",
        _coefficient,
    )

    takes_strengths = True

    def bind(self, problem: Problem) -> "TiltMatchingTuner | StrengthTiltTuner":
        kind = TiltMatchingTuner if problem.strengths is None else StrengthTiltTuner
        return kind(problem, self)


class WeightedVelocityTuner(VelocityMatchingTuner):
    """What the family shares; a subclass implements `blend`."""

    @dataclass
    class _AcceptedKeys(VelocityMatchingTuner._AcceptedKeys):
        weight: NestedKey = "weight"

    weight = "weight"
    """What enters the target: "weight", or "centered", as of `Pool.draw`."""

    def blend(self, direction: Tensor, base: Tensor, model: Tensor, weight: Tensor) -> Tensor:
        """What the velocity is regressed on, (N, *E).

        Args:
            direction: d = x1 - x0, (N, *E).
            base: The base's velocity, (N, *E).
            model: The tuned model's, (N, *E), without a graph.
            weight: Of the endpoint, (N, 1...).
        """
        raise NotImplementedError

    def sample_batch(self, n: int) -> TensorDict:
        """n candidates: `data` (n, *E), `weight` (n,) and perhaps `condition` (n, ...)."""
        drawn = self.draw(n)
        weight = drawn[self.weight]
        return self.renamed(drawn.exclude("weight", "centered").set("weight", weight))

    def target(self, rows: TensorDictBase, at: PathBatch) -> Tensor:
        weight = expand_time(self.read(rows, "weight").to(at.model), at.model)
        return self.blend(at.direction, at.base, at.model, weight)


class ETMTuner(WeightedVelocityTuner):
    """The loss of `ETM`."""

    weight = "centered"

    def blend(self, direction: Tensor, base: Tensor, model: Tensor, weight: Tensor) -> Tensor:
        return base + weight * (direction - base)


class ITMTuner(WeightedVelocityTuner):
    """The loss of `ITM`."""

    def draw(self, n: int) -> TensorDict:
        """n rows of the pool with their weights, all drawn by them."""
        return self.pool.draw(n, n)

    def blend(self, direction: Tensor, base: Tensor, model: Tensor, weight: Tensor) -> Tensor:
        variate = (direction - base) / weight
        return direction - self.coefficient(direction - model, variate) * variate

    @property
    def largest_coefficient(self) -> Tensor:
        """What c may be at most, (), given the least weight of the pool."""
        return MOST * self.pool.weight.min()

    def coefficient(self, values: Tensor, variate: Tensor) -> Tensor:
        """c, ().

        Args:
            values: What is regressed, less the model's estimate of its mean, (N, *E).
            variate: Of mean 0 at every state, (N, *E).
        """
        return self.largest_coefficient.clamp_max(1.0).to(values)


class TiltMatchingTuner(ITMTuner):
    """The loss of `TiltMatching`."""

    def __init__(self, problem: Problem, method: TiltMatching):
        super().__init__(problem, method)
        self.control = ControlVariate(method.memory, self.base.device)

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the effective fraction of the pool, and c."""
        return [*super().out_keys, "control"]

    def coefficient(self, values: Tensor, variate: Tensor) -> Tensor:
        self.control.update(values, variate)
        return self.used.to(values)

    @property
    def used(self) -> Tensor:
        """c as it is used, ()."""
        most = self.largest_coefficient
        return torch.minimum(most, self.control.coefficient.to(most))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        losses = super().forward(tensordict)
        return losses.set("control", self.used)


class StrengthTiltTuner(VelocityMatchingTuner):
    """The loss of `TiltMatching` for a range of strengths: c is estimated for each part of it."""

    @dataclass
    class _AcceptedKeys(VelocityMatchingTuner._AcceptedKeys):
        weight: NestedKey = "weight"
        least_weight: NestedKey = "least_weight"

    pool: StrengthPool

    def __init__(self, problem: Problem, method: TiltMatching):
        super().__init__(problem, method)
        self.controls = nn.ModuleList(
            ControlVariate(method.memory, self.base.device) for _ in range(STRATA)
        )

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the effective fraction of the pool, and the mean of c over the range."""
        return [*super().out_keys, "control"]

    def sample_batch(self, n: int) -> TensorDict:
        """n candidates: `data` (n, *E), `condition`, `weight` (n,) and `least_weight` (n,)."""
        return self.renamed(self.pool.draw(n, n))

    def target(self, rows: TensorDictBase, at: PathBatch) -> Tensor:
        weight, least = (self.read(rows, name).to(at.model) for name in ("weight", "least_weight"))
        variate = (at.direction - at.base) / expand_time(weight, at.model)
        values = at.direction - at.model
        # rows have the parts of the range in turn
        for part, control in enumerate(self._controls[: len(rows)]):
            control.update(values[part::STRATA], variate[part::STRATA])
        parts = torch.arange(len(rows), device=weight.device) % STRATA
        coefficient = torch.minimum(MOST * least, self._coefficients.to(least)[parts])
        return at.direction - expand_time(coefficient, at.model) * variate

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        losses = super().forward(tensordict)
        return losses.set("control", self._coefficients.mean())

    @property
    def _controls(self) -> list["ControlVariate"]:
        return cast("list[ControlVariate]", list(self.controls))

    @property
    def _coefficients(self) -> Tensor:
        """c of each part of the range, (STRATA,)."""
        return torch.stack([control.coefficient for control in self._controls])


class ControlVariate(nn.Module):
    r"""The coefficient of a control variate, estimated as a running ratio.

    .. math:: c^* = \frac{\mathbb{E}\,\langle a, v \rangle}{\mathbb{E}\,|v|^2}, \qquad
        \mathbb{E}[v] = 0

    Of all a - c v, which have one mean, that with c* has the least second moment.

    Args:
        memory: Decay of the running ratio a batch; 0.99 remembers about 100 batches.
        device: Of the estimate.
    """

    moments: Tensor

    def __init__(self, memory: float = 0.99, device: Any = None):
        super().__init__()
        self.memory = _coefficient("memory", memory)
        self.register_buffer("moments", torch.zeros(2, dtype=torch.float64, device=device))

    @property
    def coefficient(self) -> Tensor:
        """c, (), as estimated so far."""
        return self.moments[0] / self.moments[1].clamp_min(1e-30)

    def update(self, values: Tensor, variate: Tensor) -> None:
        """Take a batch, (N, *E) both, into account."""
        found = torch.stack([(values * variate).mean(), variate.square().mean()])
        self.moments.lerp_(found.to(self.moments), 1 - self.memory)
