"""Try a reward on samples of a policy and say in words what is wrong with it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import check_rows, rows_of
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.tables import html_table

from .composite import Sum
from .decorator import as_reward
from .interface import Reward, RewardError

__all__ = ["RewardReport", "check_reward"]

# single and batched arithmetic differ in rounding; a reward that mixes samples differs in more
RELATIVE, ABSOLUTE = 1e-3, 1e-4


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

    def _repr_html_(self) -> str:
        title, *verdict = str(self).splitlines()
        return html_table(title, ("verdict",), ([line.removeprefix("- ")] for line in verdict))

    def __str__(self) -> str:
        kind = "differentiable" if self.differentiable else "black box"
        verdict = ["sound"] if self.ok else [f"- {problem}" for problem in self.problems]
        return "\n".join([f"reward {self.name!r} ({kind})", *verdict])


@checks.refuse_seed
def check_reward(
    candidate: Reward | Callable[..., Any],
    policy: FlowMap,
    condition=None,
    n: int = 4,
    generator: torch.Generator | int | None = None,
) -> RewardReport:
    """Run a reward on samples of a policy and say what is wrong with it.

    Checks that it answers at all, in shape, with finite numbers; that it leaves the samples as they
    are and answers the same when asked again; that a sample's reward does not depend on the batch
    it came in; and that a declared gradient exists, is finite and not zero.

    Args:
        candidate: A reward, or any callable as a black box.
        policy: Whose samples are scored.
        condition: One for all samples, or n of them.
        n: Samples, at least 2.
        generator: Source of the samples, or its seed.
    """
    n = checks.count("n", n, least=2)
    check_flow_map("policy", policy)
    check_rows(condition, n)
    checked = as_reward(candidate)
    report = RewardReport(checked.name, checked.differentiable)
    with torch.no_grad():
        states = policy.sample(n, condition=condition, generator=generator)
        try:
            _check_answers(checked, states, condition, policy, report)
        except RewardError as error:
            report.problems.append(str(error))
            return report
    if checked.differentiable:
        report.problems += _gradient_problems(checked, states, condition, policy)
    return report


def _check_answers(
    checked: Reward, states: Tensor, condition, policy: FlowMap, report: RewardReport
) -> None:
    n = len(states)
    rewards = checked.score(states.clone(), condition, policy.decode)
    report.rewards = rewards.tolist()
    if not torch.isfinite(rewards).any():
        report.problems.append(
            f"it is NaN or infinite for all of the {n} samples, which on_invalid="
            f"{checked.on_invalid!r} leaves without any that counts"
        )
    if _changes(checked, states, condition, policy):
        report.problems.append("it changes the samples it is given: work on a copy of them")
    again = checked.score(states.clone(), condition, policy.decode)
    if not torch.allclose(rewards, again, RELATIVE, ABSOLUTE):
        report.problems.append(
            "it answers differently when asked again (random numbers, a hidden state?): "
            f"{rewards.tolist()}, then {again.tolist()}"
        )
        return
    alone = torch.cat(
        [
            checked.score(
                states[i : i + 1].clone(), rows_of(condition, slice(i, i + 1), n), policy.decode
            )
            for i in range(n)
        ]
    )
    if not torch.allclose(rewards, alone, RELATIVE, ABSOLUTE):
        report.problems.append(
            "a sample's reward depends on the batch it came in: "
            f"{rewards.tolist()} together, {alone.tolist()} one by one"
        )


def _changes(checked: Reward, states: Tensor, condition, policy: FlowMap) -> bool:
    """Whether the function writes into its input, of which a reward gives it a copy."""
    if isinstance(checked, Sum):
        return any(_changes(term, states, condition, policy) for term in checked.terms.values())
    seen = states.clone() if checked.space == "state" else policy.decode(states.clone())
    before = copy.deepcopy(seen)
    try:
        checked.ask(seen, condition)
    except Exception:  # it answered a moment ago: the next call will say what is wrong
        return False
    return not _same(seen, before)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def _gradient_problems(checked: Reward, states: Tensor, condition, policy: FlowMap) -> list[str]:
    states = states.clone().requires_grad_()
    try:
        total = checked.score(states, condition, policy.decode).sum()
    except RewardError as error:
        return [f"with gradients on, {error}"]
    if not total.requires_grad:
        return [
            "it says differentiable, but its answer carries no graph "
            "(PIL, NumPy or .detach() in the path?)"
        ]
    try:
        (gradient,) = torch.autograd.grad(total, states, allow_unused=True)
    except RuntimeError as error:
        return [f"it says differentiable, but its gradient raised: {error}"]
    if gradient is None:
        return ["it says differentiable, but its answer does not depend on the sample"]
    if not torch.isfinite(gradient).all():
        rows = (~torch.isfinite(gradient.flatten(1)).all(1)).nonzero().flatten().tolist()
        return [f"its gradient has NaN or infinity for samples {rows}"]
    if not gradient.any():
        return [
            "it says differentiable, but its gradient is zero everywhere (a threshold, a round?)"
        ]
    return []
