"""The problem of a tuning: which policy is moved to which tilt, for which conditions."""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import as_rows
from alignflow.flow_map import FlowMap, Guided, GuidedLogits
from alignflow.modules import set_unregistered
from alignflow.predictions import AverageVelocity, MeanDenoiser
from alignflow.strengths import StrengthRange
from alignflow.tilt import Tilt
from alignflow.trainable import TrainablePolicy

__all__ = ["GuidedPolicy", "Problem", "unguided"]


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@dataclass(frozen=True, eq=False)
class Problem:
    """What a tuner is to do; how it does it is the method's.

    Args:
        policy: The map that is tuned.
        tilt: Where to: the tilt of the base's distribution.
        base: The model that is tilted, of which a tuner keeps a frozen copy; None is the policy as
            it is when the tuner is built.
        condition: One to tune for, or several, as rows (C, ...), each equally often; the tilt is
            that of the base's distribution under each.
        guidance: Scale of the classifier-free guidance under which base and policy are sampled,
            before and after the tuning; 1 is the conditional model itself.
        generator: Source of all randomness.
        strengths: What a policy that takes a strength is tuned for, up to the tilt's; None for a
            policy of one. The base takes none.
    """

    policy: FlowMap
    tilt: Tilt
    base: FlowMap | None = None
    condition: Any = None
    guidance: float = 1.0
    generator: torch.Generator = field(default_factory=_seeded)
    strengths: StrengthRange | None = None

    def __post_init__(self):
        guidance = checks.finite("guidance", self.guidance)
        condition = as_rows(self.condition)
        if guidance != 1.0 and condition is None:
            raise ValueError("guidance needs a condition to guide towards, got None")
        given = {"guidance": guidance, "condition": condition}
        given["policy"] = _guided(self.policy, guidance)
        if self.base is not None:
            given["base"] = _guided(self.base, guidance)
        for name, value in given.items():
            object.__setattr__(self, name, value)


class GuidedPolicy(Guided, TrainablePolicy):
    """A policy under classifier-free guidance, tuned as it is sampled."""

    model: TrainablePolicy

    def __init__(self, model: TrainablePolicy, scale: float):
        super().__init__(model, scale)
        self.parametrization, self.invertible = model.parametrization, model.invertible
        # jumps are extrapolated as average velocities, whatever the network predicts
        defined = model.prediction.velocity_at_end
        self.prediction = AverageVelocity() if defined else MeanDenoiser()
        set_unregistered(self, module=model.module)  # which is the model's

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        free = self.model.average_velocity(x, s, t, self._null(condition, x))
        return free.lerp(self.model.average_velocity(x, s, t, condition), self.scale)

    def mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        free = self.model.mean_denoiser(x, s, t, self._null(condition, x))
        return free.lerp(self.model.mean_denoiser(x, s, t, condition), self.scale)

    def denoiser(self, x: Tensor, t: float | Tensor, condition: Any = None) -> Tensor:
        free = self.model.denoiser(x, t, self._null(condition, x))
        return free.lerp(self.model.denoiser(x, t, condition), self.scale)


class GuidedLogitsPolicy(GuidedLogits, GuidedPolicy):
    """The same of a policy on the simplex: it predicts logits, as the policy does."""

    def __init__(self, model: TrainablePolicy, scale: float):
        super().__init__(model, scale)
        self.prediction = model.prediction


def _guided(model: FlowMap, guidance: float) -> FlowMap:
    if guidance == 1.0 or isinstance(model, GuidedPolicy):
        return model
    kind = GuidedLogitsPolicy if model.prediction.is_logits else GuidedPolicy
    return kind(cast(TrainablePolicy, model), guidance)


def unguided(model: FlowMap) -> FlowMap:
    """The policy itself of one that is read under guidance."""
    return model.model if isinstance(model, GuidedPolicy) else model
