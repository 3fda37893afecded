r"""The reward interface: any callable from what people see to one number a sample, maximized.

A reward is called on a batch at a time, as `function(endpoint, condition=None)`, and may answer
with a tensor (N,) or (N, 1), an array, or a list of floats. Whether its gradient is real is declared by
`differentiable`, not guessed; everything else is a black box and runs without a graph.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from alignflow.flow_map import FlowMap

__all__ = ["Reward", "RewardError", "RewardReport", "Sum", "as_reward", "check_reward", "reward"]

INVALID = ("raise", "drop", "worst")
SPACES = ("decoded", "state")


class RewardError(ValueError):
    """A reward raised, or returned what is not one finite number for each sample."""


class Reward(TensorDictModuleBase):
    """A named reward around a function.

    Called on tensors it is the function itself, checked. Called on a TensorDict it reads `endpoint`
    and `condition` and writes `endpoint_reward`.

    Args:
        function: `function(endpoint, condition=None)`, (N, *E) to N numbers; an nn.Module's
            parameters become this module's.
        name: What errors, logs and reports call it.
        differentiable: Whether its gradient in the endpoint is real.
        space: "decoded" to see `policy.decode` of the states, "state" to see the states themselves.
        on_invalid: What NaN or infinity does: "raise" a RewardError, "drop" to a reward of -inf
            (a log-weight of -inf), or take the "worst" valid reward of the batch.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        differentiable: bool = False,
        space: str = "decoded",
        on_invalid: str = "raise",
    ):
        super().__init__()
        if space not in SPACES:
            raise ValueError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
        if on_invalid not in INVALID:
            raise ValueError(f"on_invalid must be one of {', '.join(INVALID)}, got {on_invalid!r}")
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.differentiable = differentiable
        self.space = space
        self.on_invalid = on_invalid
        self._takes_condition = _takes_condition(function)
        self.in_keys = ["endpoint"]
        self.out_keys = ["endpoint_reward"]

    def forward(self, endpoint: Tensor | TensorDictBase, condition=None):
        """The function's answer for (N, *E) as (N,), or the TensorDict form."""
        if not isinstance(endpoint, TensorDictBase):
            return self.score(endpoint, condition)
        reward = self.score(endpoint.get("endpoint"), endpoint.get("condition", None))
        return endpoint.set("endpoint_reward", reward)

    def score(
        self,
        states: Tensor,
        condition=None,
        decode: Callable[[Tensor], Any] = lambda x: x,
        step: int | None = None,
    ) -> Tensor:
        """Rewards (N,) of states (N, *E); with a graph only if the reward is differentiable.

        Args:
            states: (N, *E).
            condition: Passed on if the function takes one.
            decode: `policy.decode`, applied first unless the reward asks for the raw state.
            step: Named in errors.

        Raises:
            RewardError: If the function raises, answers in a wrong shape, or with NaN or infinity
                under on_invalid="raise"; it names the reward, the step and the samples.
        """
        where = f"reward {self.name!r}" + (f" at step {step}" if step is not None else "")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable):
            endpoint = states if self.space == "state" else decode(states)
            try:
                answer = self._call(endpoint, condition)
            except Exception as error:
                raise RewardError(
                    f"{where} raised {type(error).__name__} on a batch of {len(states)}: {error}"
                ) from error
            reward = _as_rewards(answer, len(states), states, where)
            return self._settle_invalid(reward, where)

    def _call(self, endpoint: Any, condition) -> Any:
        if self._takes_condition:
            return self.function(endpoint, condition=condition)
        return self.function(endpoint)

    def _settle_invalid(self, reward: Tensor, where: str) -> Tensor:
        valid = torch.isfinite(reward)
        if valid.all():
            return reward
        invalid = (~valid).nonzero().flatten().tolist()
        if self.on_invalid == "raise":
            shown = ", ".join(f"{i} ({reward[i].item()})" for i in invalid[:8])
            more = f" and {len(invalid) - 8} more" if len(invalid) > 8 else ""
            raise RewardError(f"{where} is not finite for samples {shown}{more} of {len(reward)}")
        if self.on_invalid == "worst" and valid.any():
            return torch.where(valid, reward, reward[valid].min().detach())
        return torch.where(valid, reward, -torch.inf)


def reward(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    differentiable: bool = False,
    space: str = "decoded",
    on_invalid: str = "raise",
):
    """Decorate a function as a `Reward`, with or without arguments.

    ::

        @af.reward(differentiable=True)
        def redness(endpoint, condition=None):
            return endpoint[:, 0].mean(dim=(1, 2))
    """

    def decorate(function: Callable[..., Any]) -> Reward:
        return Reward(function, name, differentiable, space, on_invalid)

    return decorate if function is None else decorate(function)


def as_reward(candidate: "Reward | Callable[..., Any]") -> Reward:
    """A reward as it is, or any callable as a black box.

    A module that says `differentiable` (or `name`, or `space`) of itself is taken at its word.
    """
    if isinstance(candidate, Reward):
        return candidate
    if not callable(candidate):
        raise TypeError(f"a reward must be callable, got {type(candidate).__name__}")
    return Reward(
        candidate,
        name=getattr(candidate, "name", None),
        differentiable=getattr(candidate, "differentiable", False),
        space=getattr(candidate, "space", "decoded"),
    )


class Sum(Reward):
    """A weighted sum of rewards; each term is also kept by name in `last_terms`.

    Args:
        terms: Name to (reward, weight).
        name: Of the sum.
    """

    def __init__(self, terms: Mapping[str, tuple[Any, float]], name: str = "sum"):
        if not terms:
            raise ValueError("a sum of rewards needs at least one term")
        rewards = {key: as_reward(term) for key, (term, _) in terms.items()}
        differentiable = all(term.differentiable for term in rewards.values())
        super().__init__(torch.nn.ModuleDict(rewards), name, differentiable)
        self.weights = {key: float(weight) for key, (_, weight) in terms.items()}
        self.last_terms: dict[str, Tensor] = {}

    def score(self, states, condition=None, decode=lambda x: x, step=None) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable):
            parts = {
                key: term.score(states, condition, decode, step)
                for key, term in self.function.items()
            }
        self.last_terms = {key: part.detach() for key, part in parts.items()}
        return torch.stack([self.weights[key] * part for key, part in parts.items()]).sum(0)

    def forward(self, endpoint, condition=None):
        out = super().forward(endpoint, condition)
        if isinstance(endpoint, TensorDictBase):
            for key, part in self.last_terms.items():
                out.set(f"endpoint_reward_{key}", part)
        return out


@dataclass
class RewardReport:
    """What `check_reward` found: `problems` are in words, and empty if the reward is sound."""

    name: str
    differentiable: bool
    problems: list[str] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems

    def __str__(self) -> str:
        kind = "differentiable" if self.differentiable else "black box"
        verdict = ["sound"] if self.ok else [f"- {problem}" for problem in self.problems]
        return "\n".join([f"reward {self.name!r} ({kind})", *verdict])


def check_reward(
    candidate: Reward | Callable[..., Any],
    policy: FlowMap,
    condition=None,
    n: int = 4,
    generator: torch.Generator | None = None,
) -> RewardReport:
    """Run a reward on samples of a policy and say what is wrong with it.

    Checks that it answers at all, in shape, with finite numbers; that a sample's reward does not
    depend on the batch it came in; and that a declared gradient exists, is finite and not zero.

    Args:
        candidate: A reward, or any callable as a black box.
        policy: Whose samples are scored.
        condition: One for all samples, or n of them.
        n: Samples, at least 2.
        generator: Source of the samples.
    """
    checked = as_reward(candidate)
    report = RewardReport(checked.name, checked.differentiable)
    with torch.no_grad():
        states = policy.sample(n, condition=condition, generator=generator)
    try:
        rewards = checked.score(states, condition, policy.decode).detach()
        report.rewards = rewards.tolist()
        alone = torch.cat(
            [checked.score(states[i : i + 1], _row(condition, i), policy.decode) for i in range(n)]
        )
        if not torch.allclose(rewards, alone.detach(), rtol=1e-3, atol=1e-4):
            report.problems.append(
                "a sample's reward depends on the batch it came in: "
                f"{rewards.tolist()} together, {alone.tolist()} one by one"
            )
    except RewardError as error:
        report.problems.append(str(error))
        return report
    if checked.differentiable:
        report.problems += _gradient_problems(checked, states, condition, policy)
    return report


def _gradient_problems(checked: Reward, states: Tensor, condition, policy: FlowMap) -> list[str]:
    states = states.clone().requires_grad_()
    total = checked.score(states, condition, policy.decode).sum()
    if not total.requires_grad:
        return ["it says differentiable, but its answer carries no graph (PIL, NumPy, detach?)"]
    (gradient,) = torch.autograd.grad(total, states, allow_unused=True)
    if gradient is None:
        return ["it says differentiable, but its answer does not depend on the sample"]
    if not torch.isfinite(gradient).all():
        return ["its gradient has NaN or infinity"]
    if not gradient.any():
        return ["it says differentiable, but its gradient is zero (a threshold, a rounding?)"]
    return []


def _row(condition, i: int):
    return condition[i : i + 1] if isinstance(condition, Tensor) and condition.ndim else condition


def _as_rewards(answer: Any, n: int, like: Tensor, where: str) -> Tensor:
    try:
        reward = torch.as_tensor(answer, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RewardError(f"{where} must return numbers, got {type(answer).__name__}") from error
    if reward.shape == (n, 1):
        reward = reward.squeeze(1)
    if reward.shape != (n,):
        raise RewardError(
            f"{where} must return one number for each of the {n} samples, shape ({n},) or ({n}, 1), "
            f"got shape {tuple(reward.shape)}"
        )
    return reward if reward.is_floating_point() else reward.to(like.dtype)


def _takes_condition(function: Callable[..., Any]) -> bool:
    try:
        target = function.forward if isinstance(function, torch.nn.Module) else function
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "condition" or p.kind is p.VAR_KEYWORD for p in parameters)
