r"""The flow map: the one interface that rewards, steerers and tuners ask of a generative model.

.. math:: X_{s,t}(x_s) = x_t, \qquad v_{s,t}(x) = \frac{X_{s,t}(x) - x}{t - s}, \qquad v_{t,t} = b_t

Noise at time 0, data at time 1. A flow map is the velocity b_t of the probability-flow ODE and
the jump X_{s,t} along it; all else (denoiser, sampling, the TensorDict form) follows from the two.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from alignflow import checks, draws
from alignflow.conditions import as_given, condition_rows, null_rows
from alignflow.interpolants import as_time, check_grid, denoiser_from_velocity, uniform_grid
from alignflow.modules import first_parameter
from alignflow.predictions import AverageVelocity, Prediction

__all__ = [
    "FlowMap",
    "Guided",
    "GuidedLogits",
    "Sampler",
    "Wrapped",
    "check_flow_map",
    "check_sampler",
    "guided",
]


NEVER = -30.0  # log-probabilities below it count as this: what is certain stays so under guidance
STEPS = "what steps from a time to the next: step(model, x, s, t, condition, generator)"


class Sampler(Protocol):
    """How a model is sampled: one step of it."""

    def step(
        self,
        model: "FlowMap",
        x: Tensor,
        s: float,
        t: float,
        condition: Any = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The state at time t, (N, *E), of x (N, *E) at s < t."""
        ...


class FlowMap(TensorDictModuleBase):
    """A generative model seen as a velocity and a two-time map.

    Subclasses implement `velocity` and `flow_map`. Called on a TensorDict it reads `state`, `time`
    and `target_time` (and `condition` where there is one) and writes `state` at the target time.

    Args:
        event_shape: Shape *E of one state.

    Attributes:
        evaluations: Network forwards that the last jump took; more than one for a map that
            integrates its velocity. What a result cost is counted by it.
        data_std: Standard deviation of the data along a coordinate. With it the long steps of a
            memoryless SDE, and the inner looks of a stochastic map, are exact for normal data.
        null_condition: The row that stands for no condition, under which the flow is the
            unconditional one; guidance and condition dropout use it. By default guidance passes
            None, and dropout writes -1 and the empty text, as `alignflow.conditions` says.
        prediction: What is predicted of a jump, and how a loss regresses it.
    """

    evaluations: int = 1
    data_std: float = 1.0
    prediction: Prediction = AverageVelocity()
    null_condition: Any = None

    def __init__(self, event_shape: Sequence[int]):
        super().__init__()
        self.event_shape = _event_shape(event_shape)
        self.in_keys = ["state", "time", "target_time"]
        self.out_keys = ["state"]

    def velocity(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        """Velocity b_t(x) of the flow, (N, *E).

        Args:
            x: State at time t, (N, *E).
            t: Number or (N,) in [0, 1].
            condition: What the model was trained to take, or None for the unconditional flow.
        """
        raise NotImplementedError

    def flow_map(self, x: Tensor, s: float | Tensor, t: float | Tensor, condition=None) -> Tensor:
        """Jump along the flow from time s to time t, (N, *E), differentiable in x.

        Args:
            x: State at time s, (N, *E).
            s: Start, number or (N,) in [0, 1].
            t: End, likewise.
            condition: As in `velocity`.

        Raises:
            ValueError: If some t < s and the map only runs forward.
        """
        raise NotImplementedError

    def denoiser(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        """The mean E[x1 | x_t = x], (N, *E)."""
        return denoiser_from_velocity(x, as_time(t, x), self.velocity(x, t, condition))

    @property
    def has_posterior_flow(self) -> bool:
        """Whether it is a stochastic flow map too, with `posterior_flow`."""
        return False

    def posterior_flow(self, noise: Tensor, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        """Draws of p(x1 | x_t = x) as a smooth function of noise and state.

        Args:
            noise: Standard normal, (N, K, *E).
            x: State at time t, (N, *E).
            t: Number or (N,) in [0, 1).
            condition: As in `velocity`.

        Returns:
            (N, K, *E).
        """
        raise NotImplementedError(f"{type(self).__name__} is no stochastic flow map")

    def value_network(self) -> nn.Module:
        """A network for `learn_value` on states of this kind, untrained.

        Raises:
            ValueError: If there is none.
        """
        raise ValueError(
            f"there is no network for values on states of {type(self).__name__}, of shape "
            f"{tuple(self.event_shape)}: give one, such as network=af.policies.MLP(dimension)"
        )

    def decode(self, x: Tensor):
        """What people and rewards see of states (N, *E); the states themselves by default."""
        return x

    def noise(self, n: int, generator: torch.Generator | int | None = None) -> Tensor:
        """Standard normal states at time 0, (n, *E), on the model's device."""
        n, generator = checks.count("n", n), checks.as_generator(generator)
        return draws.normal((n, *self.event_shape), generator, self.dtype, self.device)

    @checks.refuse_seed
    def sample(
        self,
        n: int,
        steps: int = 4,
        condition: Any = None,
        guidance: float = 1.0,
        generator: torch.Generator | int | None = None,
        grid: Tensor | Sequence[float] | None = None,
        differentiable: bool = False,
        sampler: "Sampler | None" = None,
        strength: float | Tensor | None = None,
    ) -> Tensor:
        """Draw n samples from noise to data along a time grid.

        The model runs as it is: one in training mode keeps its dropout and batch statistics.

        Args:
            n: Number of samples.
            steps: Of equal length; ignored where `grid` is given.
            condition: One for all, or n of them: numbers, arrays, TensorDicts, texts.
            guidance: Classifier-free guidance; 1 is the conditional model itself.
            generator: Source of the noise, or its seed.
            grid: Increasing times from 0 to 1, (steps + 1,).
            differentiable: Whether the samples carry a graph back to the model's parameters; it
                holds what all steps computed.
            sampler: What makes a step, such as those of `alignflow.samplers`; by default the jump
                of the flow map.
            strength: Of a policy that was tuned for many: one for all, or n of them.

        Returns:
            States at time 1, (n, *E).
        """
        times = (uniform_grid(steps) if grid is None else check_grid(grid, whole=True)).tolist()
        guidance = checks.finite("guidance", guidance)
        model = self if guidance == 1.0 else guided(self, guidance)
        step = _jump if sampler is None else check_sampler("sampler", sampler).step
        generator = checks.as_generator(generator)
        x = self.noise(n, generator)
        condition = self.condition_rows(self.with_strength(condition, strength), len(x))
        with nullcontext() if checks.flag("differentiable", differentiable) else torch.no_grad():
            for s, t in zip(times[:-1], times[1:], strict=True):
                x = step(model, x, s, t, condition, generator)
        return x

    def condition_rows(self, condition: Any, n: int) -> Any:
        """A condition as n rows on the model's device.

        Args:
            condition: One for all, n of them, or None.
            n: Rows wanted.

        Raises:
            ValueError: If it has another number of rows, or is none that the model knows.
        """
        # checked where it is: on its way to a GPU that costs no waiting for it
        rows = condition_rows(condition, n, getattr(condition, "device", None) or "cpu")
        self.check_condition(rows)
        return condition_rows(rows, n, self.device)

    def check_condition(self, condition: Any) -> None:
        """Refuse a condition that the model does not know; by default any will do."""

    def with_strength(self, condition: Any, strength: float | Tensor | None) -> Any:
        """A condition with a strength beside it, of a policy that was tuned for many.

        Raises:
            ValueError: If there is one, and this policy takes none.
        """
        if strength is not None:
            raise ValueError(
                "this policy takes no strength: "
                "af.finetune(policy, reward, strength=(0.0, 4.0)) tunes one for a range of them"
            )
        return condition

    def unconditional(self, condition: Any, x: Tensor) -> Any:
        """What stands for no condition in place of one, for states (N, *E); a strength stays."""
        return null_rows(self.null_condition, len(x), x.device)

    def check_order(self, s: float | Tensor, t: float | Tensor) -> None:
        """Refuse a jump from s to t that the model cannot make; by default all can be made."""

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The TensorDict form: `state` at `time` becomes `state` at `target_time`."""
        state = self.flow_map(
            tensordict.get("state"),
            tensordict.get("time"),
            tensordict.get("target_time"),
            as_given(tensordict.get("condition", None)),
        )
        return tensordict.set("state", state).set("time", tensordict.get("target_time"))

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU for a model without any."""
        parameter = first_parameter(self)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters; the default dtype for a model without any."""
        parameter = first_parameter(self)
        return torch.get_default_dtype() if parameter is None else parameter.dtype

    def check_state(self, x: Tensor) -> None:
        """Refuse what is no floating-point state of shape (N, *E)."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"a state must be a tensor of floats (N, *E), got {kind}")
        if x.shape[1:] != self.event_shape or x.ndim != len(self.event_shape) + 1:
            raise ValueError(
                f"a state must be of shape (N, {', '.join(map(str, self.event_shape))}), "
                f"got {tuple(x.shape)}"
            )


class Wrapped(FlowMap):
    """A flow map around another, which decodes, and takes conditions, as that one does.

    Args:
        model: The other.
    """

    def __init__(self, model: FlowMap):
        super().__init__(model.event_shape)
        self.model = model
        self.data_std, self.null_condition = model.data_std, model.null_condition
        self.prediction = model.prediction

    @property
    def has_posterior_flow(self) -> bool:
        return self.model.has_posterior_flow

    def decode(self, x: Tensor) -> Any:
        return self.model.decode(x)

    def check_condition(self, condition: Any) -> None:
        self.model.check_condition(condition)

    def with_strength(self, condition: Any, strength: float | Tensor | None) -> Any:
        return self.model.with_strength(condition, strength)

    def check_order(self, s: float | Tensor, t: float | Tensor) -> None:
        self.model.check_order(s, t)


class Guided(Wrapped):
    """Classifier-free guidance: the field moved from the unconditional to the conditional and on.

    For the velocity this is the usual rule. For the map it extrapolates the jumps themselves, which
    agrees with the guided flow as the jump gets short; a map *trained* under guidance needs none.
    The guided velocity is not that of any distribution of data, so it has no posterior: draws are
    extrapolated from those of the two posteriors at the same noise, and their mean is the guided
    denoiser.

    Args:
        model: A flow map that was trained without a condition too: its unconditional flow is that
            under its `null_condition`.
        scale: 0 unconditional, 1 conditional, above 1 guided.
    """

    def __init__(self, model: FlowMap, scale: float):
        super().__init__(model)
        self.scale = checks.finite("scale", scale)

    def velocity(self, x, t, condition=None):
        null = self._null(condition, x)
        return self.model.velocity(x, t, null).lerp(
            self.model.velocity(x, t, condition), self.scale
        )

    def flow_map(self, x, s, t, condition=None):
        null = self._null(condition, x)
        return self.model.flow_map(x, s, t, null).lerp(
            self.model.flow_map(x, s, t, condition), self.scale
        )

    def posterior_flow(self, noise, x, t, condition=None):
        null = self._null(condition, x)
        return self.model.posterior_flow(noise, x, t, null).lerp(
            self.model.posterior_flow(noise, x, t, condition), self.scale
        )

    def _null(self, condition, x: Tensor):
        if condition is None:
            raise ValueError("guidance needs a condition to guide towards, got None")
        return self.model.unconditional(condition, x)


class GuidedLogits(Guided):
    """Guidance of a model on the simplex: its logits are extrapolated, so that it stays there.

    Probabilities are those of the condition, to the power `scale`, times the unconditional ones to
    the power 1 - `scale`, of each token.

    Args:
        model: As in `Guided`, with `output(x, s, t, condition)`, its logits.
        scale: As in `Guided`.
    """

    def output(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        model: Any = self.model
        free, fixed = (
            model.output(x, s, t, each).log_softmax(-1).clamp(min=NEVER)
            for each in (self._null(condition, x), condition)
        )
        return free.lerp(fixed, self.scale)

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return self.prediction.average_velocity(self.output(x, s, t, condition), x, s)

    def mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return self.output(x, s, t, condition).softmax(-1)

    def velocity(self, x, t, condition=None):
        time = as_time(t, x)
        return self.average_velocity(x, time, time, condition)

    def denoiser(self, x, t, condition=None):
        time = as_time(t, x)
        return self.mean_denoiser(x, time, time, condition)

    def flow_map(self, x, s, t, condition=None):
        self.check_order(s, t)
        start, end = as_time(s, x), as_time(t, x)
        return self.prediction.jump(self.output(x, start, end, condition), x, start, end)


def guided(model: FlowMap, scale: float) -> Guided:
    """A model under classifier-free guidance, in what it predicts."""
    return (GuidedLogits if model.prediction.is_logits else Guided)(model, scale)


def _jump(model: FlowMap, x: Tensor, s: float, t: float, condition: Any, generator: Any) -> Tensor:
    return model.flow_map(x, s, t, condition)


def check_sampler(name: str, value: Any) -> Sampler:
    """Refuse what has no step of a sampler; the sampler.

    Args:
        name: Of the argument.
        value: What came.
    """
    return checks.offers(name, value, ("step",), STEPS)


def check_flow_map(name: str, value: Any) -> None:
    """Refuse what is no flow map, with the way to one where it is clear what was meant.

    Args:
        name: Of the argument.
        value: What came.
    """
    if isinstance(value, FlowMap):
        return
    way = ""
    if isinstance(value, str):
        way = f": load it first, af.load({value!r})"
    elif isinstance(value, nn.Module):
        way = ": a network becomes one by af.FlowMapPolicy(network, event_shape=...)"
    elif callable(value):
        way = (
            ": a function becomes one by af.from_flow_map(function, event_shape=...) or "
            "af.from_velocity(function, event_shape=...)"
        )
    raise ValueError(f"{name} must be a flow map, got {checks.shown(value)}{way}")


def _event_shape(event_shape: Any) -> torch.Size:
    if isinstance(event_shape, str) or not isinstance(event_shape, Sequence):
        raise ValueError(
            f"event_shape must be the sizes of one state, such as (2,) or (3, 16, 16), "
            f"got {checks.shown(event_shape)}"
        )
    return torch.Size(checks.count("each size in event_shape", size) for size in event_shape)
