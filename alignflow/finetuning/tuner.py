"""What every tuner is: a loss that moves a policy from a frozen base towards a tilt of it."""

import copy
from dataclasses import fields
from typing import Any, ClassVar, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.conditions import as_rows
from alignflow.distillation import FlowMapLoss
from alignflow.flow_map import FlowMap
from alignflow.reward_module import Reward, as_reward

__all__ = ["Tuner", "check_differentiable", "check_strength", "frozen_copy"]


class Tuner(LossModule):
    """A torchrl loss over a policy, its frozen base and a reward.

    A subclass draws its own batches (`sample_batch`), reads the keys it declares, and writes
    `loss_*` scalars, which are added and minimized, and others, which are logged. To fine-tune by
    it, `finetune` needs its name and nothing else; its keyword arguments are the method's options.

    Args:
        policy: The map being tuned.
        reward: A reward, or any callable as a black box.
        strength: lambda of the tilt.
        distillation: What keeps the policy's jumps and its velocity one flow map.
        generator: Source of all randomness.
        condition: One to tune for, or a tensor of them (C, ...), drawn evenly.
        base: The model that is tilted, of which a frozen copy is taken; the policy by default.

    Raises:
        ValueError: If the strength is negative or not finite, or the tuner needs a gradient that
            the reward does not have.
    """

    takes_black_box: ClassVar[bool] = True
    # whether the tilt may be reached in several tilts of a part of the strength each
    takes_levels: ClassVar[bool] = False
    levels: ClassVar[int] = 1

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        strength: float,
        *,
        distillation: FlowMapLoss,
        generator: torch.Generator,
        condition: Any = None,
        base: FlowMap | None = None,
    ):
        super().__init__()
        strength = check_strength(strength)
        reward = as_reward(reward)
        if not self.takes_black_box:
            check_differentiable(type(self).__name__.lower(), reward)
        self.strength, self.generator = strength, generator
        self.condition = as_rows(condition)
        self.distillation = distillation
        # in a tuple, so that what is frozen is neither trained nor saved with the policy
        self._given = (frozen_copy(policy if base is None else base), reward)

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
    def base(self) -> FlowMap:
        """The frozen model that is tilted."""
        return self._given[0]

    @property
    def reward(self) -> Reward:
        """What is maximized."""
        return self._given[1]

    def draw_condition(self, n: int) -> Tensor | None:
        """n of the conditions to tune for, (n, ...); None if there are none."""
        if self.condition is None:
            return None
        rows = torch.randint(len(self.condition), (n,), generator=self.generator)
        return self.condition[rows.to(self.condition.device)].to(self.base.device)

    def distil(self, x1: Tensor, condition: Tensor | None) -> TensorDict:
        """Losses that keep the policy one flow map, of endpoints (N, *E)."""
        batch = TensorDict({"data": x1}, batch_size=len(x1))
        return self.distillation(batch if condition is None else batch.set("condition", condition))

    def sample_batch(self, n: int) -> TensorDictBase:
        """A batch of n rows with what `forward` reads."""
        raise NotImplementedError

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses and logged scalars of a batch."""
        raise NotImplementedError


def check_strength(strength: float) -> float:
    """The strength of a tilt as a number; what is none is refused."""
    try:
        return checks.nonnegative("strength", strength)
    except ValueError as error:
        raise ValueError(f"{error}; to avoid what a reward likes, negate the reward") from None


def frozen_copy(policy: FlowMap) -> FlowMap:
    """A copy in evaluation mode that takes no gradient."""
    return copy.deepcopy(policy).eval().requires_grad_(False)


def check_differentiable(method: str, reward: Reward) -> None:
    """Refuse a black box where its gradient is needed."""
    from . import METHODS

    if not reward.differentiable:
        fit = ", ".join(name for name, tuner in METHODS.items() if tuner.takes_black_box)
        raise ValueError(
            f"{method} follows the reward's gradient, and {reward.name!r} is a black box: declare "
            f"it with @reward(differentiable=True) if its gradient is real, or use one of {fit}"
        )
