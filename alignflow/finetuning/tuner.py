"""What every tuning method is: settings that, bound to a problem, give a loss."""

import copy
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow.conditions import as_given, draw_rows
from alignflow.distillation import PSD, FlowMapLoss
from alignflow.distillation.rules import Rule
from alignflow.distillation.times import Times
from alignflow.flow_map import FlowMap
from alignflow.modules import set_unregistered
from alignflow.reward_module import Reward
from alignflow.settings import Settings, option
from alignflow.tilt import Tilt

from .problem import Problem

__all__ = ["Method", "Tuner", "check_reward", "frozen_copy"]


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    """Settings of a tuning method; the first line of a subclass is what `methods()` shows.

    A subclass adds its options as fields and implements `bind`.
    """

    takes_black_box: ClassVar[bool] = True
    """Whether some setting of it needs no gradient of the reward."""
    takes_stages: ClassVar[bool] = False
    """Whether it may reach the tilt in annealing stages, each of a part of the strength."""
    takes_strengths: ClassVar[bool] = False
    """Whether it may tune for a range of strengths at once."""
    needs_logits: ClassVar[bool] = False
    """Whether it is for policies on the simplex alone, which predict logits of tokens."""
    stages: ClassVar[int] = 1
    """How many of them by default."""

    rule: Rule = option(PSD(), "PSD, LSD or ESD: what keeps jumps and velocity one map")
    times: Times | None = option(None, "sampler of times; None is uniform")

    @property
    def needs_reward_gradient(self) -> bool:
        """Whether a black-box reward is refused."""
        return not self.takes_black_box

    def bind(self, problem: Problem) -> "Tuner":
        """The loss of the problem."""
        raise NotImplementedError


class Tuner(LossModule):
    """A torchrl loss that moves a policy from a frozen base to its tilt.

    A subclass draws its own batches (`sample_batch`), reads the keys that it declares, and writes
    `loss_*` scalars, which are added and minimized, and others, which are logged.

    Args:
        problem: What is tuned, and where to.
        method: How.
        diagonal_fraction: Fraction of the rows of `distil` that train the velocity; the others
            train the jumps.

    Attributes:
        method: The settings.
        base: The frozen model that is tilted.
        tilt: Reward and strength.
        condition: What is tuned for, rows (C, ...), or None.
        generator: Source of all randomness.
        distillation: The loss that keeps the policy's jumps and velocity one flow map.

    Raises:
        ValueError: If the method needs a gradient that the reward does not have, or tokens of a
            policy that has none.
    """

    method: Method
    base: FlowMap
    tilt: Tilt
    condition: Any

    def __init__(self, problem: Problem, method: Method, *, diagonal_fraction: float):
        super().__init__()
        check_reward(type(method).__name__, method, problem.tilt.reward)
        self.generator = problem.generator
        policy: Any = problem.policy
        if method.needs_logits and not policy.prediction.is_logits:
            raise ValueError(
                f"{type(method).__name__} draws tokens, which a policy on the simplex predicts: "
                f"parametrization must be 'simplex', got {policy.parametrization!r}"
            )
        self.distillation = FlowMapLoss(
            policy,
            method.rule,
            diagonal_fraction=diagonal_fraction,
            times=method.times,
            # off the path to the tilt no target fixes the velocity, and self-distillation diverges
            regression=policy.prediction.robust,
            generator=problem.generator,
        )
        base = frozen_copy(policy if problem.base is None else problem.base)
        condition = problem.condition
        set_unregistered(self, method=method, base=base, tilt=problem.tilt, condition=condition)

    @property
    def tensor_keys(self) -> Any:
        """Names of what `forward` reads, as `set_keys` left them."""
        return self._tensor_keys

    @property
    def in_keys(self) -> list[NestedKey]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The same as a list; a condition is read where there is one."""
        return [getattr(self.tensor_keys, field.name) for field in fields(self._AcceptedKeys)]

    @property
    def policy(self) -> FlowMap:
        """The map being tuned."""
        return cast(FlowMap, self.distillation.policy)

    @property
    def reward(self) -> Reward:
        """What is maximized."""
        return self.tilt.reward

    def read(self, tensordict: TensorDictBase, name: str) -> Any:
        """What a batch holds under the key of this name; None if it does not."""
        return as_given(tensordict.get(getattr(self.tensor_keys, name), None))

    def renamed(self, batch: TensorDict) -> TensorDict:
        """A batch under the keys that `set_keys` left."""
        for field in fields(self._AcceptedKeys):
            if field.name in batch:
                batch.rename_key_(field.name, getattr(self.tensor_keys, field.name))
        return batch

    def draw_condition(self, n: int) -> Any:
        """n of the conditions to tune for, drawn evenly, (n, ...); None if there are none."""
        return draw_rows(self.condition, n, self.generator, self.base.device)

    def distil(self, x1: Tensor, condition: Any = None) -> TensorDict:
        """Losses that keep the policy one flow map, of endpoints (N, *E)."""
        batch = TensorDict({"data": x1}, batch_size=len(x1))
        if condition is not None:
            batch["condition"] = condition
        return self.distillation(batch)

    def follow(self, average: FlowMap) -> None:
        """Take the averaged policy of the training, which changes with it; here it is not used."""

    def sample_batch(self, n: int) -> TensorDictBase:
        """A batch of n rows with what `forward` reads."""
        raise NotImplementedError

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses and logged scalars of a batch."""
        raise NotImplementedError


def frozen_copy(policy: FlowMap) -> FlowMap:
    """A copy in evaluation mode that takes no gradient."""
    return copy.deepcopy(policy).eval().requires_grad_(False)


def check_reward(name: str, method: Method, reward: Reward, instead: str = "") -> None:
    """Refuse a black box where its gradient is needed.

    Args:
        name: Of the method, for the error.
        method: The method.
        reward: The reward.
        instead: What else to do, for the error.
    """
    if method.needs_reward_gradient and not reward.differentiable:
        raise ValueError(
            f"{name} follows the reward's gradient, and {reward.name!r} is a black box: "
            f"declare it with @reward(differentiable=True) if its gradient is real{instead}"
        )
