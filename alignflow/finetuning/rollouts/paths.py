"""Differentiable rollouts; here by jumps of the few-step map."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alignflow import checks
from alignflow.flow_map import FlowMap

__all__ = ["MapRollout", "Node", "Path", "check_rollout", "graph", "recomputed"]


@dataclass(frozen=True)
class Node:
    """A state of a stochastic path at which the model was evaluated.

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
    """A rollout.

    Args:
        endpoint: States at time 1, (N, *E), with a graph through the last jumps.
        replay: The endpoint that another model reaches from the same start on the same noise.
        nodes: Of a stochastic path, those that carry a graph.
        log_ratio: Of an ODE's path, a callable of another model: log(density / its density) at the
            endpoint, (N,), with a graph.
    """

    endpoint: Tensor
    replay: Callable[[FlowMap], Tensor]
    nodes: list[Node] = field(default_factory=list)
    log_ratio: Callable[[FlowMap], Tensor] | None = None


class MapRollout:
    """The few-step map itself: equal jumps from the start to time 1.

    Args:
        jumps: Number of them.
        truncation: Last jumps through which the gradient is backpropagated; None is all.
        start: "noise", or "path" for states x_t at random times of the path to the base's samples.
        recompute: Whether the backward pass recomputes each jump instead of storing it, which needs
            the memory of one jump.

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
                    jump = recomputed(model.flow_map, self.recompute)
                    y = jump(y, self._time(start, k), self._time(start, k + 1), condition)
            return y

        return Path(run(model), replay=run)

    def _time(self, start: Tensor, k: int) -> Tensor:
        # the last time is 1 exactly, which rounding would miss
        return torch.ones_like(start) if k == self.jumps else start + k / self.jumps * (1 - start)


def check_rollout(jumps: int, truncation: int | None, start: str) -> tuple[int, int]:
    """Jumps of a rollout, checked, and how many of them a gradient is backpropagated through."""
    checks.choice("start", start, ("noise", "path"))
    jumps = checks.count("jumps", jumps)
    if truncation is None:
        return jumps, jumps
    return jumps, checks.count("truncation", truncation, most=jumps)


def graph(live: bool):
    """A context with a graph if the jump is live and its caller wants one."""
    return torch.set_grad_enabled(live and torch.is_grad_enabled())


def recomputed(function: Callable[..., Tensor], recompute: bool) -> Callable[..., Tensor]:
    """The function, with its activations recomputed in the backward pass if that is wanted."""
    if not recompute:
        return function
    return lambda *arguments: checkpoint(function, *arguments, use_reentrant=False)
