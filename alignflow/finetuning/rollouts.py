"""Ways to an endpoint that a gradient can walk back; here by jumps of the few-step map."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alignflow import checks
from alignflow.flow_map import FlowMap

__all__ = ["MapRollout", "Node", "Path", "check_rollout", "graph", "kept"]


@dataclass(frozen=True)
class Node:
    """One point of a stochastic path where the model chose its velocity.

    Args:
        state: (N, *E), with a graph.
        time: (N,).
        velocity: The model's there, (N, *E), with a graph.
        weight: Of |change of the velocity|^2 in the path KL, (N,).
    """

    state: Tensor
    time: Tensor
    velocity: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Path:
    """What a rollout found.

    Args:
        endpoint: States at time 1, (N, *E), with a graph through the last jumps.
        replay: The endpoint that another model reaches from the same start on the same noise.
        nodes: Of a stochastic path, those that carry a graph.
        log_ratio: Of an ODE's path, a call of another model that gives log(density / its density)
            at the endpoint, (N,), with a graph.
    """

    endpoint: Tensor
    replay: Callable[[FlowMap], Tensor]
    nodes: list[Node] = field(default_factory=list)
    log_ratio: Callable[[FlowMap], Tensor] | None = None


class MapRollout:
    """The few-step map itself: equal jumps from the start to time 1.

    Args:
        jumps: Number of them.
        truncation: Jumps that the gradient walks back, counted from the end; None is all.
        start: "noise", or "path" for states x_t at random times of the path to the base's samples.
        recompute: Whether the backward pass computes each jump again instead of keeping it, which
            holds the memory of one jump.

    Source: Clark et al. 2023 (2309.17400), DRaFT-K, for the truncation.
    """

    trains_velocity = False

    def __init__(
        self,
        jumps: int = 4,
        truncation: int | None = None,
        start: str = "noise",
        recompute: bool = False,
    ):
        self.jumps, self.truncation = check_rollout(jumps, truncation, start)
        self.start, self.recompute = start, checks.flag("recompute", recompute)

    def __call__(
        self,
        model: FlowMap,
        x: Tensor,
        start: Tensor,
        condition=None,
        generator: torch.Generator | None = None,
    ) -> Path:
        """From states (N, *E) at times (N,) to their endpoints."""

        def run(model: FlowMap) -> Tensor:
            y = x
            for k in range(self.jumps):
                with graph(self.jumps - k <= self.truncation):
                    jump = kept(model.flow_map, self.recompute)
                    y = jump(y, self._time(start, k), self._time(start, k + 1), condition)
            return y

        return Path(run(model), replay=run)

    def _time(self, start: Tensor, k: int) -> Tensor:
        # the last time is 1 exactly, which rounding would miss
        return torch.ones_like(start) if k == self.jumps else start + k / self.jumps * (1 - start)


def check_rollout(jumps: int, truncation: int | None, start: str) -> tuple[int, int]:
    """The jumps of a rollout that is possible, and how many of them a gradient walks back."""
    checks.choice("start", start, ("noise", "path"))
    jumps = checks.count("jumps", jumps)
    if truncation is None:
        return jumps, jumps
    return jumps, checks.count("truncation", truncation, most=jumps)


def graph(live: bool):
    """A context with a graph if the jump is live and its caller wants one."""
    return torch.set_grad_enabled(live and torch.is_grad_enabled())


def kept(function: Callable[..., Tensor], recompute: bool) -> Callable[..., Tensor]:
    """The function, with its activations kept for the backward pass or computed again there."""
    if not recompute:
        return function
    return lambda *arguments: checkpoint(function, *arguments, use_reentrant=False)
