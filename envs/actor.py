"""A flow map as a stochastic actor: actions are Gaussian, with a known density."""

import math
from typing import Any, cast

import torch
from tensordict import TensorDict
from tensordict.nn import InteractionType, TensorDictModuleBase
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.distribution import Distribution
from torchrl.modules import ProbabilisticActor

from alignflow.conditions import flat_rows
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.steering.registry import Choice, build_transition

__all__ = ["StepDistribution", "StepMoments", "denoising_actor"]


LOG_NORMAL = math.log(2 * math.pi) / 2


class StepDistribution(Distribution):
    """Isotropic Gaussians over whole states; one of scale 0 is its mean, of log-density 0.

    Args:
        loc: Means (*B, *E).
        scale: Standard deviations, (*B,), at least 0.
    """

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None):
        self.loc, self.scale = loc, scale
        batch = scale.shape
        super().__init__(batch, loc.shape[len(batch) :], validate_args)

    @property
    def arg_constraints(self) -> dict[str, Any]:
        return {"loc": constraints.real, "scale": constraints.nonnegative}

    @property
    def support(self) -> Any:
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def deterministic_sample(self) -> Tensor:
        """The mean, which torchrl takes where it does not explore."""
        return self.loc

    def rsample(self, sample_shape=()) -> Tensor:
        shape = torch.Size(sample_shape) + self.loc.shape
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self._wide(self.scale) * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """(*B,), in nats; 0 where the scale is 0."""
        scale = torch.where(self.scale > 0, self.scale, 1.0)
        square = (value - self.loc).flatten(-len(self.event_shape)).square().sum(-1)
        size = self.event_shape.numel()
        total = -square / (2 * scale.square()) - size * (scale.log() + LOG_NORMAL)
        return torch.where(self.scale > 0, total, 0.0)

    def entropy(self) -> Tensor:
        """(*B,), in nats; 0 where the scale is 0."""
        scale = torch.where(self.scale > 0, self.scale, 1.0)
        total = self.event_shape.numel() * (0.5 + LOG_NORMAL + scale.log())
        return torch.where(self.scale > 0, total, 0.0)

    def _wide(self, scale: Tensor) -> Tensor:
        return scale.reshape(*scale.shape, *[1] * len(self.event_shape))


class StepMoments(TensorDictModuleBase):
    """Mean `loc` (*B, *E) and standard deviation `scale` (*B,) of a step, under any batch shape.

    Args:
        policy: Makes the step.
        transition: As `denoising_actor` takes it.

    Raises:
        ValueError: If the transition has no density.
    """

    def __init__(self, policy: FlowMap, transition: Choice):
        super().__init__()
        check_flow_map("policy", policy)
        self.policy, self.transition = policy, cast(Any, build_transition(transition, policy))
        if not self.transition.has_density:
            raise ValueError(f"transition must be 'sde' or 'anchored', got {transition!r}")
        self.in_keys = ["state", "time", "target_time"]
        self.out_keys = ["loc", "scale"]

    def forward(self, tensordict):
        batch = tensordict["time"].shape[:-1]
        state = tensordict["state"].reshape(-1, *self.policy.event_shape)
        rows = {"state": state}
        rows |= {key: tensordict[key].reshape(-1) for key in ("time", "target_time")}
        condition = flat_rows(tensordict.get("condition", None), len(batch))
        if condition is not None:
            rows["condition"] = condition
        if "velocity" in self.transition.reads:
            rows["velocity"] = self.policy.velocity(state, rows["time"], condition)
        mean, std, _ = self.transition.moments(TensorDict(rows, batch_size=len(state)))
        tensordict["loc"] = mean.reshape(*batch, *self.policy.event_shape)
        tensordict["scale"] = std.reshape(batch)
        return tensordict


def denoising_actor(policy: FlowMap, transition: Choice = "sde") -> Any:
    """A torchrl actor for `DenoisingEnv`: its parameters are the policy's.

    It writes `action`, and `action_log_prob` (*B,), which is 0 for the last step: the one to time 1
    has no noise. It draws from torch's global generator, as all of torchrl does.

    Args:
        policy: A flow map.
        transition: For many steps "sde", the memoryless SDE, or {"name": "sde", "noise": 0.7} for a
            fraction of its noise. Or "anchored" ({"name": "anchored", "anchor": 0.5}), which keeps
            the marginals of a few-step map at any step length.
    """
    return ProbabilisticActor(
        cast(Any, StepMoments(policy, transition)),
        in_keys=["loc", "scale"],
        out_keys=["action"],
        distribution_class=StepDistribution,
        distribution_kwargs={"validate_args": False},
        default_interaction_type=InteractionType.RANDOM,
        return_log_prob=True,
        log_prob_key="action_log_prob",
    )
