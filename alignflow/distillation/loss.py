r"""The loss that learns a flow and a flow map at once: an anchor on the diagonal, a rule off it.

.. math::
    L = \mathbb{E}\,\lvert v_{t,t}(I_t) - b \rvert^2
      + \mathbb{E}\,\lvert \text{residual}_{s,t}(I_s) \rvert^2

b is the velocity of the data pair, or a frozen teacher's. Rows of a batch are either on the
diagonal or off it, and the loss is one mean over all rows: the two terms weigh as their shares.

Source: Boffi et al. 2025 (2505.18825), algorithm 1 (which gives each term unit weight).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import as_given, drop_rows, rows_of
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import Interpolant, Linear

from .rules import ESD, LSD, PSD
from .times import UniformTimes

__all__ = ["FlowMapLoss", "LossWeight", "build_loss"]


class FlowMapLoss(nn.Module):
    """Loss of a flow map on a batch of data, as a TensorDict of `loss_diagonal` and `loss_map`.

    Args:
        policy: The map being trained; gives `average_velocity(x, s, t, condition)`.
        rule: `PSD`, `LSD` or `ESD`; None trains the flow alone.
        teacher: A frozen flow map whose velocity anchors the diagonal and drives LSD and ESD; None
            anchors on the data and lets the map teach itself.
        velocity: "model" (the teacher, else the map's own diagonal) or "data" (MeanFlow).
        diagonal_fraction: Share of rows on the diagonal; 0 where another loss trains it.
        times: Sampler of times.
        path: Interpolant between noise and data.
        weight: A learned weight of the loss by its times.
        condition_dropout: Share of rows that lose their condition; see `conditions.drop_rows`.
        damped: Whether a row off the diagonal pulls the less the longer its residual is beyond the
            directions of the path: l / (1 + l / E|x1 - x0|^2), its denominator constant. A map that
            teaches itself where nothing else holds its velocity may run away without it.
        generator: Source of noise and times.
    """

    policy: Any
    rule: PSD | LSD | ESD | None

    def __init__(
        self,
        policy: nn.Module,
        rule: PSD | LSD | ESD | None = None,
        *,
        teacher: FlowMap | None = None,
        velocity: str = "model",
        diagonal_fraction: float = 0.75,
        times: UniformTimes | None = None,
        path: Interpolant | None = None,
        weight: nn.Module | None = None,
        condition_dropout: float = 0.0,
        damped: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        diagonal_fraction = checks.fraction("diagonal_fraction", diagonal_fraction)
        checks.choice("velocity", velocity, ("model", "data"))
        if teacher is not None and not hasattr(teacher, "velocity"):
            check_flow_map("teacher", teacher)
        if rule is not None:
            checks.offers("rule", rule, ("__call__",), "PSD(), LSD() or ESD()")
        if times is not None:
            wanted = "a sampler of times, such as UniformTimes()"
            checks.offers("times", times, ("diagonal", "pairs"), wanted)
        if path is not None:
            checks.offers("path", path, ("state", "velocity"), "an interpolant, such as Linear()")
        if weight is not None:
            checks.offers("weight", weight, ("__call__",), "a module, such as LossWeight()")
        if velocity == "data" and not (isinstance(rule, ESD) and rule.stop_gradient == "target"):
            raise ValueError(
                "the velocity of the data pair stands in for the flow's only in ESD with "
                "stop_gradient='target' (MeanFlow), where it enters linearly at the same point"
            )
        self.policy = policy
        self.rule = rule
        # in a tuple, so that a frozen teacher is neither trained, averaged nor saved with the map
        self._teacher = (teacher,)
        self.velocity = velocity
        self.diagonal_fraction = diagonal_fraction if rule is not None else 1.0
        self.times = UniformTimes() if times is None else times
        self.path = Linear() if path is None else path
        self.weight = weight
        self.condition_dropout = checks.fraction("condition_dropout", condition_dropout)
        self.damped = checks.flag("damped", damped)
        self.generator = checks.as_generator(generator)

    @property
    def teacher(self) -> FlowMap | None:
        """The frozen flow map that teaches, if any."""
        return self._teacher[0]

    def forward(self, batch: TensorDictBase) -> TensorDict:
        """Losses of a batch with `data` (N, *E) and optionally `condition`, of N rows."""
        x1, condition = batch.get("data"), as_given(batch.get("condition", None))
        if condition is not None:
            dropped = torch.rand(len(x1), generator=self.generator) < self.condition_dropout
            condition = drop_rows(condition, dropped) if self.condition_dropout else condition
        x0 = torch.randn(x1.shape, generator=self.generator, dtype=x1.dtype).to(x1.device)
        rows = len(x1)
        diagonal = rows - int(round((1 - self.diagonal_fraction) * rows))
        losses = {}
        if diagonal:
            losses["loss_diagonal"] = self._diagonal(*_rows(slice(diagonal), x0, x1, condition))
        if diagonal < rows:
            losses["loss_map"] = self._map(*_rows(slice(diagonal, rows), x0, x1, condition))
        share = {"loss_diagonal": diagonal / rows, "loss_map": 1 - diagonal / rows}
        return TensorDict({name: share[name] * loss for name, loss in losses.items()})

    def _diagonal(self, x0: Tensor, x1: Tensor, condition: Any) -> Tensor:
        t = self.times.diagonal(len(x1), self.generator).to(x1)
        x = self.path.state(x0, x1, t)
        if self.teacher is None:
            target = self.path.velocity(x0, x1, t)
        else:
            with torch.no_grad():
                target = self.teacher.velocity(x, t, condition)
        return self._mean(self.policy.average_velocity(x, t, t, condition) - target, t, t)

    def _map(self, x0: Tensor, x1: Tensor, condition: Any) -> Tensor:
        assert self.rule is not None
        s, t = (time.to(x1) for time in self.times.pairs(len(x1), self.generator))
        x = self.path.state(x0, x1, s)

        def average(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
            return self.policy.average_velocity(x, s, t, condition)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            if self.velocity == "data":
                return self.path.velocity(x0, x1, t)
            if self.teacher is not None:
                return self.teacher.velocity(x, t, condition)
            return self.policy.average_velocity(x, t, t, condition)

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            return (self.teacher or self.policy).denoiser(x, t, condition)

        if isinstance(self.rule, LSD) and _gives_denoiser(self.teacher or self.policy):
            residual = self.rule.of_denoiser(average, denoiser, x, s, t)
        else:
            residual = self.rule(average, velocity, x, s, t, self.generator)
        most = self.path.velocity(x0, x1, s).square().mean() if self.damped else None
        return self._mean(residual, s, t, most)

    def _mean(self, residual: Tensor, s: Tensor, t: Tensor, most: Tensor | None = None) -> Tensor:
        loss = residual.float().square().flatten(1).mean(1)
        if most is not None:
            loss = loss / (1 + loss.detach() / most)
        return (loss if self.weight is None else self.weight(loss, s, t)).mean()


class LossWeight(nn.Module):
    r"""A learned weight :math:`e^{-w_{s,t}} L + w_{s,t}`, where w settles at the log of the loss.

    Args:
        frequencies: Random Fourier features of each of the two times.

    Source: Karras et al. 2024 (2312.02696), section 4; Boffi et al. 2025, section 3.
    """

    frequencies: Tensor

    def __init__(self, frequencies: int = 64):
        super().__init__()
        frequencies = checks.count("frequencies", frequencies)
        self.register_buffer("frequencies", torch.randn(2, frequencies))
        self.out = nn.Linear(2 * frequencies, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, loss: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Loss of each row (N,) and its times (N,) -> weighted loss (N,)."""
        angle = 2 * math.pi * torch.stack([s, t], dim=-1).float() @ self.frequencies
        w = self.out(torch.cat([angle.cos(), angle.sin()], dim=-1)).squeeze(-1)
        return (-w).exp() * loss + w


_RULES: dict[str, Callable[[], dict]] = {
    "flow_matching": lambda: {"rule": None},
    "psd": lambda: {"rule": PSD()},
    "psd_midpoint": lambda: {"rule": PSD(split="midpoint")},
    "lsd": lambda: {"rule": LSD()},
    "esd": lambda: {"rule": ESD()},
    "meanflow": lambda: {"rule": ESD(stop_gradient="target"), "velocity": "data"},
}


def build_loss(name: str, policy: nn.Module, **options) -> FlowMapLoss:
    """A loss by name: flow_matching, psd, psd_midpoint, lsd, esd or meanflow."""
    return FlowMapLoss(policy, **_RULES[checks.choice("loss", name, _RULES)](), **options)


def _gives_denoiser(model: Any) -> bool:
    """Whether its velocity is a quotient, 0/0 at time 1, of what it gives."""
    return getattr(model, "parametrization", None) == "mean_denoiser"


def _rows(rows: slice, x0: Tensor, x1: Tensor, condition: Any) -> tuple[Tensor, Tensor, Any]:
    return x0[rows], x1[rows], rows_of(condition, rows, len(x1))
