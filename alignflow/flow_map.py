r"""The flow map: the one interface that rewards, steerers and tuners ask of a generative model.

.. math:: X_{s,t}(x_s) = x_t, \qquad v_{s,t}(x) = \frac{X_{s,t}(x) - x}{t - s}, \qquad v_{t,t} = b_t

Noise at time 0, data at time 1. A flow map is the velocity b_t of the probability-flow ODE and
the jump X_{s,t} along it; all else (denoiser, sampling, the TensorDict form) follows from the two.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import as_given, condition_rows, null_rows
from alignflow.interpolants import as_time, check_grid, denoiser_from_velocity, uniform_grid
from alignflow.predictions import AverageVelocity, Prediction

__all__ = ["FlowMap", "Guided", "TrainablePolicy", "Wrapped", "check_flow_map", "check_trainable"]


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

    def decode(self, x: Tensor):
        """What people and rewards see of states (N, *E); the states themselves by default."""
        return x

    def noise(self, n: int, generator: torch.Generator | int | None = None) -> Tensor:
        """Standard normal states at time 0, (n, *E), on the model's device."""
        n, generator = checks.count("n", n), checks.as_generator(generator)
        # drawn where the generator lives, so that a seed means the same noise on every device
        source = self.device if generator is None else generator.device
        shape = (n, *self.event_shape)
        return torch.randn(shape, generator=generator, device=source, dtype=self.dtype).to(
            self.device
        )

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
    ) -> Tensor:
        """Draw n samples by jumping from noise to data along a time grid.

        The model runs as it is: one in training mode keeps its dropout and batch statistics.

        Args:
            n: Number of samples.
            steps: Jumps of equal length; ignored where `grid` is given.
            condition: One for all, or n of them: numbers, arrays, TensorDicts, texts.
            guidance: Classifier-free guidance; 1 is the conditional model itself.
            generator: Source of the noise, or its seed.
            grid: Increasing times from 0 to 1, (steps + 1,).
            differentiable: Whether the samples carry a graph back to the model's parameters; it
                holds what all steps computed.

        Returns:
            States at time 1, (n, *E).
        """
        times = (uniform_grid(steps) if grid is None else check_grid(grid, whole=True)).tolist()
        guidance = checks.finite("guidance", guidance)
        model = self if guidance == 1.0 else Guided(self, guidance)
        x = self.noise(n, generator)
        condition = self.condition_rows(condition, len(x))
        with nullcontext() if checks.flag("differentiable", differentiable) else torch.no_grad():
            for s, t in zip(times[:-1], times[1:], strict=True):
                x = model.flow_map(x, s, t, condition)
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
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters; the default dtype for a model without any."""
        return next((p.dtype for p in self.parameters()), torch.get_default_dtype())

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


class TrainablePolicy(FlowMap):
    """A flow map with a network: what training, distillation and tuning ask of a policy.

    Subclasses implement `average_velocity`, `mean_denoiser`, `flow_map` and `save`; velocity and
    denoiser are their diagonals. What is trained are the policy's `parameters()`; `noise`,
    `device`, `dtype` and `data_std` are those of any flow map.

    Attributes:
        module: The network, called with (x, s, t, condition): what is compiled.
        parametrization: What the network predicts: "average_velocity", "mean_denoiser" or
            "simplex".
        invertible: Whether the map runs from data to noise too (t < s).
    """

    module: nn.Module
    parametrization: str
    invertible: bool = False

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """v_{s,t}(x), (N, *E), of states (N, *E) and times (N,)."""
        raise NotImplementedError

    def mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """delta_{s,t}(x) = x + (1-s) v_{s,t}(x), (N, *E), of states (N, *E) and times (N,)."""
        raise NotImplementedError

    def velocity(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        t = as_time(t, x)
        return self.average_velocity(x, t, t, condition)

    def denoiser(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        t = as_time(t, x)
        return self.mean_denoiser(x, t, t, condition)

    def with_context(self, data_std: float | None = None) -> "TrainablePolicy":
        """A copy whose network takes a context too, (time, state): the start of `learn_posterior`.

        Args:
            data_std: Standard deviation of the data; the policy's where it is None.

        Raises:
            ValueError: If the network cannot be given a context.
        """
        raise ValueError(f"{type(self).__name__} cannot be given a context")

    def inner_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition: Any = None
    ) -> Tensor:
        """v_{s,t}(x) of the inner flow to the posterior, (N, *E): what `learn_posterior` trains.

        Args:
            x: Inner states, (N, *E).
            s: Inner start, (N,).
            t: Inner end, (N,).
            context: Time (N,) and state (N, *E) that the posterior is given.
            condition: As in `velocity`.
        """
        raise NotImplementedError(f"{type(self).__name__} is no stochastic flow map")

    def inner_denoiser(
        self, x: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition: Any = None
    ) -> Tensor:
        """Mean of the posterior given an inner state at inner time t too, (N, *E)."""
        raise NotImplementedError(f"{type(self).__name__} is no stochastic flow map")

    def save(
        self,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        *,
        allow_nonfinite: bool = False,
    ) -> Path:
        """Write the policy as a folder from which it can be loaded.

        Args:
            folder: Where; absent, empty, or a folder that this wrote, which is replaced.
            dtype: Of the stored numbers, e.g. torch.float16 for half the size; as they are if None.
            allow_nonfinite: Whether NaN and infinite weights are saved.
        """
        raise NotImplementedError


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
        return null_rows(self.model.null_condition, len(x), x.device)


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


def check_trainable(policy: Any, caller: str) -> TrainablePolicy:
    """The policy itself if it has a network to train.

    Args:
        policy: What came.
        caller: The function that trains, which the error names.

    Raises:
        ValueError: If it is no flow map, or one without a network.
    """
    check_flow_map("policy", policy)
    if not isinstance(policy, TrainablePolicy):
        raise ValueError(
            f"{caller} needs a policy with a network, FlowMapPolicy(module, ...); "
            f"{type(policy).__name__} has none"
        )
    return policy


def _event_shape(event_shape: Any) -> torch.Size:
    if isinstance(event_shape, str) or not isinstance(event_shape, Sequence):
        raise ValueError(
            f"event_shape must be the sizes of one state, such as (2,) or (3, 16, 16), "
            f"got {checks.shown(event_shape)}"
        )
    return torch.Size(checks.count("each size in event_shape", size) for size in event_shape)
