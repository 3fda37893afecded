r"""The loss that learns a flow and a flow map at once: an anchor on the diagonal, a rule off it.

.. math::
    L = \mathbb{E}\, \ell\big(v_{t,t}(I_t),\, b\big)
      + \mathbb{E}\, \ell\big(\text{prediction}_{s,t}(I_s),\, \text{target}_{s,t}(I_s)\big)

b is the velocity of the data pair, or a frozen teacher's, and l a regression. Rows of a batch are
either on the diagonal or off it, and the loss is one mean over all rows: the two terms weigh as
their fractions of them.

Source: Boffi et al. 2025 (2505.18825), algorithm 1 (which gives each term unit weight).
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import as_given, drop_rows, rows_of
from alignflow.draws import uniform
from alignflow.flow_map import check_flow_map
from alignflow.interpolants import Interpolant, Linear
from alignflow.modules import set_unregistered
from alignflow.predictions import Prediction
from alignflow.regressions import CrossEntropy, Regression, SoftTarget

from .inverse import check_invertible, inverse_error
from .logit_rules import LogitESD, LogitLSD
from .roles import Student, Teacher
from .rules import ESD, LSD, PSD, Learner, Rule
from .times import Times, UniformTimes
from .trajectory import Trajectory

__all__ = ["FlowMapLoss", "build_loss"]


class FlowMapLoss(nn.Module):
    """Loss of a flow map on a batch of data, as a TensorDict of `loss_diagonal` and `loss_map`.

    Args:
        policy: The map in training.
        rule: `PSD`, `LSD`, `ESD` or `Trajectory`; None trains the flow alone.
        teacher: A frozen flow map whose velocity anchors the diagonal and drives LSD and ESD; None
            anchors on the data and lets the map teach itself.
        velocity: "model" (the teacher, else the map's diagonal) or "data" (MeanFlow).
        diagonal_fraction: Fraction of rows on the diagonal; 0 where another loss trains it.
        times: Sampler of times.
        path: Interpolant between noise and data.
        regression: Of predictions on targets; by default the policy's, `prediction.regression`.
        weight: A learned weight of each row's loss by its times, `LossWeight`.
        invertibility: Weight of `loss_inverse`, what a jump and the jump back miss of where they
            started: it makes the map one-to-one, and trains it backwards. 0 leaves it out.
        condition_dropout: Fraction of rows that lose their condition; see `conditions.drop_rows`.
        generator: Source of noise and times.
    """

    policy: Student
    teacher: Teacher | None

    def __init__(
        self,
        policy: Student,
        rule: Rule | None = None,
        *,
        teacher: Teacher | None = None,
        velocity: str = "model",
        diagonal_fraction: float = 0.75,
        times: Times | None = None,
        path: Interpolant | None = None,
        regression: Regression | None = None,
        weight: nn.Module | None = None,
        invertibility: float = 0.0,
        condition_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not isinstance(teacher, Teacher | None):
            check_flow_map("teacher", teacher)
        _check_parts(rule=rule, times=times, path=path, regression=regression, weight=weight)
        checks.choice("velocity", velocity, ("model", "data"))
        if velocity == "data" and not (isinstance(rule, ESD) and rule.stop_gradient == "target"):
            raise ValueError(
                "the velocity of the data pair stands in for the flow's only in ESD with "
                "stop_gradient='target' (MeanFlow), where it enters linearly at the same point"
            )
        self.policy = policy
        self.prediction: Prediction = policy.prediction
        if rule is not None:
            rule.check(self.prediction)
        self.rule = rule
        set_unregistered(self, teacher=teacher)
        self.velocity = velocity
        diagonal_fraction = checks.fraction("diagonal_fraction", diagonal_fraction)
        self.diagonal_fraction = 1.0 if rule is None else diagonal_fraction
        self.times = UniformTimes() if times is None else times
        self.path = Linear() if path is None else path
        self.regression = self.prediction.regression if regression is None else regression
        self.weight = weight
        self.invertibility = checks.nonnegative("invertibility", invertibility)
        if self.invertibility:
            check_invertible(rule, self.prediction)
        self.condition_dropout = checks.fraction("condition_dropout", condition_dropout)
        self.generator = checks.as_generator(generator)

    def forward(self, batch: TensorDictBase) -> TensorDict:
        """Losses of a batch with `data` (N, *E) and optionally `condition`, of N rows.

        Data may be the tokens of one-hot states.
        """
        x1, condition = batch.get("data"), as_given(batch.get("condition", None))
        if condition is not None:
            dropped = uniform((len(x1),), self.generator) < self.condition_dropout
            if self.condition_dropout:
                condition = drop_rows(condition, dropped, self.policy.null_condition)
        x0 = self.policy.noise(len(x1), self.generator)
        rows = len(x1)
        diagonal = rows - int(round((1 - self.diagonal_fraction) * rows))
        losses = {}
        if diagonal:
            losses["loss_diagonal"] = self._diagonal(*_rows(slice(diagonal), x0, x1, condition))
        if diagonal < rows:
            losses |= self._map(*_rows(slice(diagonal, rows), x0, x1, condition))
        jumps = 1 - diagonal / rows
        weight = {
            "loss_diagonal": diagonal / rows,
            "loss_map": jumps,
            "loss_inverse": self.invertibility * jumps,
        }
        return TensorDict({name: weight[name] * loss for name, loss in losses.items()})

    def match(
        self,
        x: Tensor,
        t: Tensor,
        target_velocity: Tensor | Callable[[Tensor], Tensor],
        condition: Any = None,
    ) -> Tensor:
        """Loss of the policy on the diagonal against a velocity, in whatever it predicts.

        Args:
            x: States, (N, *E).
            t: Times, (N,), below 1.
            target_velocity: (N, *E), or a callable that makes it of the policy's velocity at x,
                (N, *E), without a graph, which saves an evaluation of the network.
            condition: Of the rows.

        Returns:
            A scalar.
        """
        predicted = self._predict(x, t, t, condition)
        if not isinstance(target_velocity, Tensor):
            velocity = self.prediction.average_velocity(predicted.detach(), x, t)
            with torch.no_grad():
                target_velocity = target_velocity(velocity)
        return self._mean(predicted, self.prediction.target(target_velocity, x, t), t, t)

    def _predict(self, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        return self.prediction.predict(self.policy, x, s, t, condition)

    def _diagonal(self, x0: Tensor, x1: Tensor, condition: Any) -> Tensor:
        t = self.times.diagonal(len(x1), self.generator).to(x0)
        x = self.prediction.state(self.path, x0, x1, t)
        if self.teacher is None:
            target = self.prediction.anchor(self.path, x0, x1, x, t)
            return self._mean(self._predict(x, t, t, condition), target, t, t)
        with torch.no_grad():
            target = self.teacher.velocity(x, t, condition)
        return self.match(x, t, target, condition)

    def _map(self, x0: Tensor, x1: Tensor, condition: Any) -> dict[str, Tensor]:
        assert self.rule is not None
        s, t = (time.to(x0) for time in self.times.pairs(len(x1), self.generator))
        learner, directions = self._learner(x0, x1, condition), None
        if x1.is_floating_point():
            directions = self.path.velocity(x0, x1, s)
        x = self.prediction.state(self.path, x0, x1, s)
        predicted, target = self.rule(learner, x, s, t, self.generator)
        losses = {"loss_map": self._mean(predicted, target, s, t, directions)}
        if self.invertibility:
            losses["loss_inverse"] = inverse_error(learner, x, s, t).mean()
        return losses

    def _learner(self, x0: Tensor, x1: Tensor, condition: Any) -> Learner:
        """What the rule is given, under the conditions of its rows."""
        leader = self.policy if self.teacher is None else self.teacher

        def predict(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
            return self._predict(x, s, t, condition)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            if self.velocity == "data":
                return self.path.velocity(x0, x1, t)
            if self.teacher is not None:
                return self.teacher.velocity(x, t, condition)
            return self.prediction.average_velocity(predict(x, t, t), x, t)

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            return leader.denoiser(x, t, condition)

        at_end = leader.prediction.velocity_at_end
        return Learner(predict, velocity, None if at_end else denoiser, self.prediction)

    def _mean(
        self,
        predicted: Tensor,
        target: Tensor | SoftTarget,
        s: Tensor,
        t: Tensor,
        directions: Tensor | None = None,
    ) -> Tensor:
        if isinstance(target, SoftTarget) and not isinstance(self.regression, CrossEntropy):
            target = target.distribution()
        # only a cross-entropy is given a soft target
        loss = self.regression(predicted, cast(Tensor, target), s, t, directions)
        return (loss if self.weight is None else self.weight(loss, s, t)).mean()


_RULES: dict[str, Callable[[], dict]] = {
    "flow_matching": lambda: {"rule": None},
    "psd": lambda: {"rule": PSD()},
    "psd_midpoint": lambda: {"rule": PSD(split="midpoint")},
    "lsd": lambda: {"rule": LSD()},
    "esd": lambda: {"rule": ESD()},
    "trajectory": lambda: {"rule": Trajectory()},
    "meanflow": lambda: {"rule": ESD(stop_gradient="target"), "velocity": "data"},
}


_LOGIT_RULES = {"lsd": LogitLSD, "esd": LogitESD}


def build_loss(name: str, policy: Student, **options) -> FlowMapLoss:
    """A loss by name: flow_matching, psd, psd_midpoint, lsd, esd, trajectory or meanflow."""
    parts = _RULES[checks.choice("loss", name, _RULES)]()
    if policy.prediction.is_logits and name in _LOGIT_RULES:
        parts = {"rule": _LOGIT_RULES[name]()}
    return FlowMapLoss(policy, **parts, **options)


def _rows(rows: slice, x0: Tensor, x1: Tensor, condition: Any) -> tuple[Tensor, Tensor, Any]:
    return x0[rows], x1[rows], rows_of(condition, rows, len(x1))


_PARTS = {
    "rule": (("__call__", "check"), "PSD(), LSD(), ESD() or Trajectory()"),
    "times": (("diagonal", "pairs"), "a sampler of times, such as UniformTimes()"),
    "path": (("state", "velocity"), "an interpolant, such as Linear()"),
    "regression": (("__call__",), "a regression, such as SquaredError()"),
    "weight": (("__call__",), "a module, such as LossWeight()"),
}
"""What is used of a part of the loss, and what it is in words."""


def _check_parts(**parts: Any) -> None:
    for name, part in parts.items():
        if part is not None:
            checks.offers(name, part, *_PARTS[name])
