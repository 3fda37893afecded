"""The differentiable policy: a network of two times as a flow map."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import repeat_rows
from alignflow.decoding import Decoder, as_decoder
from alignflow.interpolants import as_time, comes_before, expand_time
from alignflow.parametrizations import PARAMETRIZATIONS
from alignflow.posteriors import InnerLook
from alignflow.strengths import StrengthRange, strength_of, with_strength, without_strength
from alignflow.trainable import TrainablePolicy

from .networks import NETWORKS, StrengthNetwork
from .networks.embedding import check_labels
from .saving import save
from .value_network import network_like

__all__ = ["FlowMapPolicy", "StrengthPolicy"]


class FlowMapPolicy(TrainablePolicy):
    """A flow map given by a network of two times.

    Args:
        module: `module(x, s, t, condition=None)`, states (N, *E) and times (N,) to (N, *E).
        event_shape: Shape *E of one state.
        parametrization: What the network predicts: "average_velocity" v_{s,t}, or "mean_denoiser"
            delta_{s,t} = x + (1-s) v_{s,t}, or "simplex": logits of delta_{s,t}, for one-hot tokens
            (L, V).
        decode: What people and rewards see of states: a `Decoder`, which is frozen, or the name of
            a registered one: "identity", "image" for [0, 1], or "particles" for states in relative
            coordinates.
        invertible: Whether the map was trained to run from data to noise too (t < s).
        stochastic: Whether the network takes a context too, `context=(t, x_t)`, and the policy
            draws from the posterior by an `InnerLook`. A context at time 0 is the map itself.
        data_std: Standard deviation of the data along a coordinate.
        facts: Anything JSON can hold that travels with the saved model (its card).
    """

    decoder: Decoder

    def __init__(
        self,
        module: nn.Module,
        event_shape: Sequence[int],
        parametrization: str = "average_velocity",
        decode: str | Decoder = "identity",
        invertible: bool = False,
        stochastic: bool = False,
        data_std: float = 1.0,
        facts: dict | None = None,
    ):
        super().__init__(event_shape)
        wanted = "a torch.nn.Module that is called with (x, s, t, condition)"
        self.module = checks.offers("module", module, ("__call__",), wanted)
        self.parametrization = checks.choice("parametrization", parametrization, PARAMETRIZATIONS)
        self._conversion = PARAMETRIZATIONS[self.parametrization]
        self.prediction = self._conversion.prediction
        # not registered, for it is neither trained nor averaged with the network
        vars(self)["decoder"] = as_decoder(decode).eval().requires_grad_(False)
        self.decoder.check_event_shape(self.event_shape)
        self.invertible = checks.flag("invertible", invertible)
        self.stochastic = checks.flag("stochastic", stochastic)
        self.data_std = checks.positive("data_std", data_std)
        if not isinstance(facts, dict | None):
            raise ValueError(f"facts must be a dict, got {checks.shown(facts)}")
        self.facts = facts or {}
        if type(module) in NETWORKS.values():
            self._check_network(cast(Any, module))

    def output(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """What the network predicts, (N, *E), of states (N, *E) and times (N,)."""
        return self._call(x, s, t, condition)

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return self._conversion.average_velocity(x, s, self._call(x, s, t, condition))

    def mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return self._conversion.mean_denoiser(x, s, self._call(x, s, t, condition))

    def flow_map(self, x: Tensor, s: float | Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        start, end = as_time(s, x), as_time(t, x)
        numbers = isinstance(s, float) and isinstance(t, float)
        self.check_order(*((s, t) if numbers else (start, end)))
        output = self._call(x, start, end, condition)
        return self._conversion.flow_map(x, start, end, output)

    def check_order(self, s: float | Tensor, t: float | Tensor) -> None:
        if not self.invertible and comes_before(t, s):
            raise ValueError(
                "this map was trained from noise to data only, and some target time lies before "
                "its start: train it with both_directions=True to run it backwards"
            )

    @property
    def has_posterior_flow(self) -> bool:
        return self.stochastic

    def posterior_flow(self, noise: Tensor, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        """Draws of p(x1 | x_t = x), one forward each, as `FlowMap.posterior_flow`."""
        if not self.stochastic:
            return super().posterior_flow(noise, x, t, condition)
        self.check_state(x)
        rows, draws = noise.shape[:2]
        start = x.new_zeros(rows * draws)
        context = (
            as_time(t, x).repeat_interleave(draws),
            x.repeat_interleave(draws, 0),
        )
        flat, label = noise.flatten(0, 1), repeat_rows(condition, draws)
        velocity = self.inner_velocity(flat, start, start + 1, context, label)
        return (flat + velocity).unflatten(0, (rows, draws))

    def inner_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition: Any = None
    ) -> Tensor:
        look, context = self._look(x, s, t, context)
        output = self._call(look.state, look.start, look.end, condition, context)
        return look.velocity(self._conversion.average_velocity(look.state, look.start, output))

    def inner_denoiser(
        self, x: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition: Any = None
    ) -> Tensor:
        look, context = self._look(x, t, t, context)
        output = self._call(look.state, look.start, look.start, condition, context)
        return self._conversion.mean_denoiser(look.state, look.start, output)

    def with_context(self, data_std: float | None = None) -> "FlowMapPolicy":
        """A copy whose network takes a context, without effect yet: `learn_posterior`'s start.

        Its draws are exact already where the data is normal, of the standard deviation given.

        Args:
            data_std: Standard deviation of the data; the policy's where it is None.

        Raises:
            ValueError: If the network is not a registered one.
        """
        kind = type(self.module)
        if kind not in NETWORKS.values() or "context" not in cast(dict, self.module.arguments):
            raise ValueError(
                f"this network ({kind.__name__}) cannot be given a context: take a registered one "
                "that can, or build yours with one, and give it as "
                "FlowMapPolicy(module, ..., stochastic=True)"
            )
        module = self.module
        if not self.stochastic:
            module = kind(**cast(dict, module.arguments) | {"context": True}).to(self.dtype)
            module.load_state_dict(self.module.state_dict(), strict=False)
        network = copy.deepcopy(module).to(self.device)
        std = self.data_std if data_std is None else data_std
        return self._with_network(network, FlowMapPolicy, stochastic=True, data_std=std)

    def with_strengths(self, strengths: StrengthRange) -> "StrengthPolicy":
        """A copy that takes a strength, without effect yet: the start of a tuning for a range.

        Raises:
            ValueError: If the network is not a registered one, or has a strength or a context.
        """
        if self.stochastic:
            raise ValueError(
                "a stochastic map cannot be given a strength: tune the map, and learn its "
                "posterior at one strength, af.learn_posterior(tuned.at_strength(2.0))"
            )
        network = StrengthNetwork.around(self.module, strengths)
        return cast(StrengthPolicy, self._with_network(network, StrengthPolicy))

    def _with_network(
        self, network: nn.Module, kind: "type[FlowMapPolicy]", **options: Any
    ) -> "FlowMapPolicy":
        """A policy of another network, which shares nothing with this one."""
        return kind(
            network,
            self.event_shape,
            self.parametrization,
            copy.deepcopy(self.decoder),
            self.invertible,
            **{"data_std": self.data_std, "facts": copy.deepcopy(self.facts)} | options,
        )

    @property
    def null_condition(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The network's `null_condition`, or None."""
        return getattr(self.module, "null_condition", None)

    def check_condition(self, condition: Any) -> None:
        _check_condition(self.module, condition)

    def value_network(self) -> nn.Module:
        """A small network of the kind of the policy's, or else of the kind of its states."""
        found = network_like(self.module, self.event_shape)
        return super().value_network() if found is None else found.to(self.device, self.dtype)

    def decode(self, x: Tensor, **options: Any) -> Any:
        """What people and rewards see of states (N, *E).

        Args:
            x: The states.
            **options: Of the decoder, such as the temperature of a `Vocabulary`.
        """
        # images are decoded pixel by pixel, and so of any size
        floats = isinstance(x, Tensor) and x.is_floating_point()
        if not floats or x.ndim != len(self.event_shape) + 1:
            self.check_state(x)
        return self.decoder(x, **options)

    def save(
        self,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        *,
        allow_nonfinite: bool = False,
    ) -> Path:
        """Write the policy as a folder that `load_policy` reads, in the dtype that it has now.

        Args:
            folder: Where; absent, empty, or a folder that this wrote, which is replaced.
            dtype: Of the stored numbers, e.g. torch.float16 for half the size; as they are if None.
            allow_nonfinite: Whether weights that are NaN or infinite are meant to be so.

        Raises:
            CheckpointError: If something else stands there, which is left as it is, or a weight is
                NaN or infinite.
        """
        described = {
            "event_shape": list(self.event_shape),
            "parametrization": self.parametrization,
            "invertible": self.invertible,
            "stochastic": self.stochastic,
            "data_std": self.data_std,
            "facts": self.facts,
        }
        parts = self.module, self.decoder
        return save(folder, *parts, described, dtype, allow_nonfinite=allow_nonfinite)

    def _apply(self, fn: Any, recurse: bool = True) -> "FlowMapPolicy":
        # the decoder goes where the policy goes
        self.decoder._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _check_network(self, module: Any) -> None:
        name = type(module).__name__
        if not module.takes(self.event_shape):
            raise ValueError(
                f"event_shape {tuple(self.event_shape)} must be one that the network takes, and "
                f"does not fit {name} of {module.arguments}"
            )
        if self.stochastic and not module.arguments.get("context"):
            raise ValueError(f"a stochastic map needs a network with context=True; {name} has none")

    def _look(
        self, x: Tensor, s: Tensor, t: Tensor, context: tuple[Tensor, Tensor]
    ) -> tuple[InnerLook, tuple[Tensor, Tensor]]:
        """Where the network is asked for an inner jump, and the context that it is given."""
        time, state = context
        # at time 0 the state says nothing, and the map is the unconditional one
        state = torch.where(expand_time(time > 0, state), state, 0.0)
        return InnerLook(x, s, t, state, time, self.data_std), (time, state)

    def _call(self, x: Tensor, s: Tensor, t: Tensor, condition, context=None) -> Tensor:
        if self.stochastic and context is None:
            context = torch.zeros_like(s), torch.zeros_like(x)
        label = () if condition is None else (condition,)
        out = self.module(x, s, t, *label, **({} if context is None else {"context": context}))
        # under autocast a network answers in a lower precision than its states have
        return out.to(x.dtype)


class StrengthPolicy(FlowMapPolicy):
    """A policy that was tuned for a range of strengths: `sample(n, strength=2.5)`.

    Its condition is that of the policy from which it was tuned with a strength beside it, the
    mapping {"strength": ..., "condition": ...} of `with_strength`. At strength 0 it is that policy
    exactly. Arguments are those of `FlowMapPolicy`, around a `StrengthNetwork`.
    """

    @property
    def strengths(self) -> StrengthRange:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What it was tuned for."""
        return cast(StrengthNetwork, self.module).strengths

    def with_strength(self, condition: Any, strength: float | Tensor | None) -> Any:
        if strength is None:
            return condition
        if strength_of(condition) is not None:
            raise ValueError("strength stands beside the condition already: give it once")
        return with_strength(condition, self.strengths.checked(strength))

    def check_condition(self, condition: Any) -> None:
        strength = strength_of(condition)
        if strength is None:
            raise ValueError(
                "this policy was tuned for many strengths: choose one (or one for each sample) "
                f"{self.strengths}, as in sample(n, strength={self.strengths.upper:g})"
            )
        self.strengths.checked(strength)
        _check_condition(cast(Any, self.module).network, without_strength(condition))

    def unconditional(self, condition: Any, x: Tensor) -> Any:
        strength = cast(Tensor, strength_of(condition))
        return with_strength(super().unconditional(without_strength(condition), x), strength)

    def at_strength(self, strength: float) -> FlowMapPolicy:
        """The policy at one strength, as one without: steered, saved and tuned as any other.

        Raises:
            ValueError: If it lies outside of the range.
        """
        number = self.strengths.checked(checks.finite("strength", strength)).to(self.device)
        network = cast(StrengthNetwork, self.module).at(number)
        return self._with_network(network, FlowMapPolicy).train(self.training)


def _check_condition(module: nn.Module, condition: Any) -> None:
    """Refuse a condition that a network does not know."""
    if condition is None:
        return
    if (check := getattr(module, "check_condition", None)) is not None:
        check(condition)
    classes = getattr(module, "arguments", {}).get("classes", 0)
    if classes and type(module) in NETWORKS.values():
        check_labels(condition, classes)
