"""What a result cost: network forwards and reward calls, counted where they happen.

A meter comes to a flow map and a reward by wrapping them; whatever then uses the two, however
it is composed, is counted: forwards as they run, gradients as they come back through them. What
something will cost is counted in the same way, in a dry run: the wrapped model and reward then
answer at once, with a stand-in for the network.

A meter belongs to a call, not to what is called: two threads that call one steerer have two.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from alignflow.flow_map import FlowMap, Sampler, Wrapped
from alignflow.reward_module import Reward

__all__ = [
    "Cost",
    "Meter",
    "MeteredFlowMap",
    "MeteredReward",
    "MeteredSampler",
    "MeteredValue",
    "dry_run",
    "metered",
]


@dataclass(frozen=True)
class Cost:
    """Evaluations, in samples: one forward of a network on a batch of N counts N.

    Args:
        nfe: Forwards of the network.
        vjps: Gradients pulled back through a forward of the network.
        reward_calls: Samples scored.
        reward_vjps: Gradients of the reward.
    """

    nfe: int = 0
    vjps: int = 0
    reward_calls: int = 0
    reward_vjps: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.nfe + other.nfe,
            self.vjps + other.vjps,
            self.reward_calls + other.reward_calls,
            self.reward_vjps + other.reward_vjps,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return self + other * -1

    def __mul__(self, times: int) -> "Cost":
        return Cost(**{name: times * value for name, value in self.items()})

    def __floordiv__(self, samples: int) -> "Cost":
        return Cost(**{name: value // samples for name, value in self.items()})

    def items(self) -> list[tuple[str, int]]:
        """Names and numbers, in the order of the fields."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


class Meter:
    """A running total."""

    def __init__(self):
        self.total = Cost()

    def add(self, **counts: int) -> None:
        """Add to the total, by name of a field of `Cost`."""
        self.total = self.total + Cost(**counts)

    def count(self, out: Tensor, forward: str, backward: str, samples: int) -> None:
        """Add samples to `forward` now, and to `backward` once a gradient has come to an output."""
        self.add(**{forward: samples})
        if out.requires_grad:
            out.register_hook(lambda gradient: self.add(**{backward: samples}))


_OF_CALL: ContextVar[Meter | None] = ContextVar("meter_of_call", default=None)
_DRY: ContextVar[bool] = ContextVar("dry_run", default=False)


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter of the call inside, in this thread, for what was wrapped without one."""
    meter = Meter()
    token = _OF_CALL.set(meter)
    try:
        yield meter
    finally:
        _OF_CALL.reset(token)


@contextmanager
def dry_run() -> Iterator[None]:
    """Inside, in this thread, metered models and rewards count and do not compute.

    A jump and a velocity are then the state itself, a reward the sum of it.
    """
    token = _DRY.set(True)
    try:
        yield
    finally:
        _DRY.reset(token)


class MeteredFlowMap(Wrapped):
    """A flow map whose forwards and backwards are counted.

    Args:
        model: The map itself. A call of `velocity`, `denoiser`, `flow_map` or `output` is one
            forward, but for a jump that says in `model.evaluations` that it took more.
        meter: What counts; that of the running call if None, as `metered` gives it.
    """

    def __init__(self, model: FlowMap, meter: Meter | None = None):
        super().__init__(model)
        self.meter = meter

    def velocity(self, x, t, condition=None):
        return self._count(self._asked.velocity(x, t, condition))

    def denoiser(self, x, t, condition=None):
        return self._count(self._asked.denoiser(x, t, condition))

    def flow_map(self, x, s, t, condition=None):
        asked = self._asked
        return self._count(asked.flow_map(x, s, t, condition), asked.evaluations)

    def output(self, x, s, t, condition=None):
        """What a policy predicts."""
        asked: Any = self._asked
        return self._count(asked.output(x, s, t, condition))

    def posterior_flow(self, noise, x, t, condition=None):
        draws = self._asked.posterior_flow(noise, x, t, condition)
        return self._count(draws.flatten(0, 1)).unflatten(0, draws.shape[:2])

    @property
    def _asked(self) -> FlowMap:
        return _StandIn(self.event_shape) if _DRY.get() else self.model

    def _count(self, out: Tensor, evaluations: int = 1) -> Tensor:
        _counting(self.meter).count(out, "nfe", "vjps", len(out) * evaluations)
        return out


class MeteredSampler:
    """A sampler whose forwards are counted.

    Args:
        sampler: The sampler itself.
        meter: What counts, as `MeteredFlowMap` takes it.
    """

    def __init__(self, sampler: Sampler, meter: Meter | None = None):
        self.sampler, self.meter = sampler, meter

    def step(self, model, x, s, t, condition=None, generator=None):
        return self.sampler.step(MeteredFlowMap(model, self.meter), x, s, t, condition, generator)


class MeteredValue:
    """A learned value whose forwards and gradients are counted as those of the model are.

    Args:
        value: A callable (state, time, strength, condition) -> values (N,).
        meter: What counts, as `MeteredFlowMap` takes it.
    """

    def __init__(self, value: Callable[..., Tensor], meter: Meter | None = None):
        self.value, self.meter = value, meter

    def __call__(self, x: Tensor, t: Tensor, strength: Tensor, condition: Any = None) -> Tensor:
        out = x.flatten(1).sum(1) if _DRY.get() else self.value(x, t, strength, condition)
        _counting(self.meter).count(out, "nfe", "vjps", len(out))
        return out


class _StandIn(FlowMap):
    """Has a gradient, and no network."""

    def velocity(self, x, t, condition=None):
        return 1.0 * x

    def flow_map(self, x, s, t, condition=None):
        return 1.0 * x

    def output(self, x, s, t, condition=None):
        return 1.0 * x

    def posterior_flow(self, noise, x, t, condition=None):
        return noise + x.unsqueeze(1)


class MeteredReward(Reward):
    """A reward whose calls and gradients are counted; otherwise the reward itself.

    Args:
        reward: The reward.
        meter: What counts, as `MeteredFlowMap` takes it.
    """

    def __init__(self, reward: Reward, meter: Meter | None = None):
        super().__init__(
            reward, reward.name, reward.differentiable, reward.space, reward.on_invalid
        )
        self.reward = reward
        self.meter = meter

    def score(self, states, condition=None, decode=lambda x: x):
        return self.score_terms(states, condition, decode)[0]

    def score_terms(self, states, condition=None, decode=lambda x: x):
        rewards, terms = self._asked(states, condition, decode)
        _counting(self.meter).count(rewards, "reward_calls", "reward_vjps", len(states))
        return rewards, terms

    def _asked(self, states: Any, condition: Any, decode: Any) -> tuple[Tensor, dict]:
        if not _DRY.get():
            return self.reward.score_terms(states, condition, decode)
        total = states.flatten(1).sum(1)
        return total if self.differentiable else total.detach(), {}


def _counting(meter: Meter | None) -> Meter:
    return meter or _OF_CALL.get() or Meter()
