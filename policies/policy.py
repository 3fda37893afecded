"""The differentiable policy: a network as a flow map, saved and loaded as a folder."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import (
    CheckpointError,
    build_without_memory,
    fact,
    load_folder,
    load_parameters,
    save_folder,
)
from alignflow.conditions import repeat_rows
from alignflow.flow_map import TrainablePolicy
from alignflow.interpolants import (
    as_time,
    average_velocity_from_mean_denoiser,
    expand_time,
    flow_map_from_average_velocity,
    flow_map_from_mean_denoiser,
    mean_denoiser_from_average_velocity,
)
from alignflow.posteriors import InnerLook
from alignflow.predictions import PREDICTIONS
from alignflow.targets import from_relative

from .networks import NETWORKS
from .networks.embedding import check_labels

__all__ = ["DECODERS", "FlowMapPolicy", "load_policy"]

FORMAT = 1
DTYPES = ("float16", "bfloat16", "float32", "float64")
LARGEST = 2**31  # numbers of one state, of a model that is loaded


def _identity(x: Tensor) -> Tensor:
    return x


def _image(x: Tensor) -> Tensor:
    """States in [-1, 1] to pixels in [0, 1]."""
    return ((x + 1) / 2).clamp(0, 1)


DECODERS = {"identity": _identity, "image": _image, "particles": from_relative}


class FlowMapPolicy(TrainablePolicy):
    """A flow map given by a network of two times.

    Args:
        module: `module(x, s, t, condition=None)`, states (N, *E) and times (N,) to (N, *E).
        event_shape: Shape *E of one state.
        parametrization: What the network gives: "average_velocity" v_{s,t}, or "mean_denoiser"
            delta_{s,t} = x + (1-s) v_{s,t} (simplex heads).
        decode: Name of what people and rewards see: "identity", "image" for [0, 1], or "particles"
            for states in relative coordinates.
        invertible: Whether the map was trained to run from data to noise too (t < s).
        stochastic: Whether the network was trained in a context too, as `context=(t, x_t)`, and
            gives posterior draws, by an `InnerLook`; an empty context is then the unconditional
            map.
        data_std: Standard deviation of the data along a coordinate.
        facts: Anything JSON can hold that travels with the saved model (its card).
    """

    def __init__(
        self,
        module: nn.Module,
        event_shape: Sequence[int],
        parametrization: str = "average_velocity",
        decode: str = "identity",
        invertible: bool = False,
        stochastic: bool = False,
        data_std: float = 1.0,
        facts: dict | None = None,
    ):
        if isinstance(event_shape, str) or not isinstance(event_shape, Sequence):
            raise ValueError(
                f"event_shape must be the sizes of one state, got {checks.shown(event_shape)}"
            )
        super().__init__([checks.count("event_shape", size) for size in event_shape])
        wanted = "a torch.nn.Module that is called with (x, s, t, condition)"
        self.module = checks.offers("module", module, ("__call__",), wanted)
        self.parametrization = checks.choice("parametrization", parametrization, PREDICTIONS)
        self.prediction = PREDICTIONS[self.parametrization]
        self.decoder = checks.choice("decode", decode, DECODERS)
        self.invertible = checks.flag("invertible", invertible)
        self.stochastic = checks.flag("stochastic", stochastic)
        self.data_std = checks.positive("data_std", data_std)
        if not isinstance(facts, dict | None):
            raise ValueError(f"facts must be a dict, got {checks.shown(facts)}")
        self.facts = facts or {}
        if type(module) in NETWORKS.values():
            self._check_network(cast(Any, module))

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition=None) -> Tensor:
        """v_{s,t}(x), (N, *E), of states (N, *E) and times (N,): what distillation trains."""
        return self._average_velocity(x, s, t, condition)

    def mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, condition=None) -> Tensor:
        """delta_{s,t}(x), (N, *E), of states (N, *E) and times (N,)."""
        return self._mean_denoiser(x, s, t, condition)

    def flow_map(self, x: Tensor, s: float | Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        s, t = as_time(s, x), as_time(t, x)
        if not self.invertible and (t < s).any():
            raise ValueError(
                "this map was trained from noise to data only, and some target time lies before "
                "its start: train it with both_directions=True to run it backwards"
            )
        if self.parametrization == "mean_denoiser":
            return flow_map_from_mean_denoiser(x, s, t, self._call(x, s, t, condition))
        return flow_map_from_average_velocity(x, s, t, self._call(x, s, t, condition))

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
        self, x: Tensor, s: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition=None
    ) -> Tensor:
        """v_{s,t}(x) of the inner flow to the posterior, (N, *E): what `learn_posterior` trains.

        Args:
            x: Inner states, (N, *E).
            s: Inner start, (N,).
            t: Inner end, (N,).
            context: Time (N,) and state (N, *E) that the posterior is given.
            condition: As in `velocity`.
        """
        look, context = self._look(x, s, t, context)
        average = self._average_velocity(look.state, look.start, look.end, condition, context)
        return look.velocity(average)

    def inner_denoiser(
        self, x: Tensor, t: Tensor, context: tuple[Tensor, Tensor], condition=None
    ) -> Tensor:
        """Mean of the posterior given an inner state at inner time t too, (N, *E)."""
        look, context = self._look(x, t, t, context)
        return self._mean_denoiser(look.state, look.start, look.start, condition, context)

    def with_context(self, data_std: float | None = None) -> "FlowMapPolicy":
        """A copy whose network takes a context, which does nothing yet: `learn_posterior`'s start.

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
                "that can, or build yours with one, and hand it in as "
                "FlowMapPolicy(module, ..., stochastic=True)"
            )
        module = self.module
        if not self.stochastic:
            module = kind(**cast(dict, module.arguments) | {"context": True}).to(self.dtype)
            module.load_state_dict(self.module.state_dict(), strict=False)
        return FlowMapPolicy(
            copy.deepcopy(module).to(self.device),
            self.event_shape,
            self.parametrization,
            self.decoder,
            self.invertible,
            stochastic=True,
            data_std=self.data_std if data_std is None else data_std,
            facts=self.facts,
        )

    def check_condition(self, condition: Any) -> None:
        classes = getattr(self.module, "arguments", {}).get("classes", 0)
        if condition is not None and classes and type(self.module) in NETWORKS.values():
            check_labels(condition, classes)

    def decode(self, x: Tensor) -> Tensor:
        # pixel by pixel, and so of any size
        floats = isinstance(x, Tensor) and x.is_floating_point()
        if not floats or x.ndim != len(self.event_shape) + 1:
            self.check_state(x)
        return DECODERS[self.decoder](x)

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
        if dtype is not None and not _is_floating(dtype):
            raise ValueError(
                f"dtype must be a floating-point one, like torch.float16, got {checks.shown(dtype)}"
            )
        names = {network: name for name, network in NETWORKS.items()}
        state = self.module.state_dict()
        own = {str(v.dtype).removeprefix("torch.") for v in state.values() if v.is_floating_point()}
        tensors = {
            k: v.to(dtype) if dtype is not None and v.is_floating_point() else v
            for k, v in state.items()
        }
        network = names.get(type(self.module))
        facts = {
            "format": FORMAT,
            "network": network,
            "arguments": self.module.arguments if network is not None else {},
            # of a mixture nothing is said, and it comes back as the network is built
            "dtype": next((name for name in DTYPES if own == {name}), None),
            "event_shape": list(self.event_shape),
            "parametrization": self.parametrization,
            "decode": self.decoder,
            "invertible": self.invertible,
            "stochastic": self.stochastic,
            "data_std": self.data_std,
            "facts": self.facts,
        }
        return save_folder(folder, tensors, facts, allow_nonfinite=allow_nonfinite)

    def _check_network(self, module: Any) -> None:
        name = type(module).__name__
        if not module.takes(self.event_shape):
            raise ValueError(
                f"event_shape {tuple(self.event_shape)} must be one that the network takes, and "
                f"does not fit {name} of {module.arguments}"
            )
        if self.stochastic and not module.arguments.get("context"):
            raise ValueError(f"a stochastic map needs a network with context=True; {name} has none")

    def _average_velocity(self, x: Tensor, s: Tensor, t: Tensor, *given) -> Tensor:
        out = self._call(x, s, t, *given)
        if self.parametrization == "mean_denoiser":
            return average_velocity_from_mean_denoiser(x, s, out)
        return out

    def _mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, *given) -> Tensor:
        out = self._call(x, s, t, *given)
        if self.parametrization == "average_velocity":
            return mean_denoiser_from_average_velocity(x, s, out)
        return out

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


def load_policy(
    folder: str | Path, module: nn.Module | None = None, *, allow_nonfinite: bool = False
) -> FlowMapPolicy:
    """Read a policy that `FlowMapPolicy.save` wrote, in the dtype that it had.

    Args:
        folder: Its folder.
        module: A network of your own to hold the weights; by default the registered network that
            the folder names, built with the arguments it holds.
        allow_nonfinite: Whether weights that are NaN or infinite are let through.

    Raises:
        CheckpointError: If the folder is damaged, names no registered network and no module is
            given, its weights do not fit, or one is NaN or infinite.
    """

    if module is not None:
        checks.instance("module", module, nn.Module, "an instance of a torch.nn.Module")

    def check(facts: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
        if fact(facts, "format", int, folder) != FORMAT:
            raise CheckpointError(f"{folder} has format {facts['format']}, expected {FORMAT}")
        if module is not None:
            _described(module, facts, folder)
            return
        skeleton = build_without_memory(_network(facts, folder), shapes, folder)
        _described(skeleton, facts, folder)

    tensors, facts = load_folder(folder, check, allow_nonfinite=allow_nonfinite)
    network = module if module is not None else _network(facts, folder)()
    if facts.get("dtype") is not None:
        network = network.to(getattr(torch, facts["dtype"]))
    load_parameters(network, tensors, folder)
    return _described(network, facts, folder).eval()


def _network(facts: dict[str, Any], folder: str | Path) -> Callable[[], nn.Module]:
    """What makes the network that a folder names."""
    name = facts.get("network")
    if not isinstance(name, str) or name not in NETWORKS:
        raise CheckpointError(
            f"{folder} holds a network that is not registered ({checks.shown(name)}, known: "
            f"{', '.join(NETWORKS)}): pass it, af.load(folder, module=MyNet())"
        )
    return partial(NETWORKS[name], **fact(facts, "arguments", dict, folder))


def _described(network: nn.Module, facts: dict[str, Any], folder: str | Path) -> FlowMapPolicy:
    """The policy of a network as the facts have it."""
    # what older versions did not write, or called otherwise
    older = {"dtype": None, "stochastic": False, "data_std": facts.get("data_deviation", 1.0)}
    facts = older | facts
    event_shape = fact(facts, "event_shape", list, folder)
    if facts["dtype"] is not None and fact(facts, "dtype", str, folder) not in DTYPES:
        raise CheckpointError(f"{folder} names a dtype that is none of {', '.join(DTYPES)}")
    try:
        policy = FlowMapPolicy(
            network,
            event_shape,
            parametrization=fact(facts, "parametrization", str, folder),
            decode=fact(facts, "decode", str, folder),
            invertible=fact(facts, "invertible", bool, folder),
            stochastic=fact(facts, "stochastic", bool, folder),
            data_std=fact(facts, "data_std", float, folder),
            facts=fact(facts, "facts", dict, folder),
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{folder} holds no policy: {error}") from error
    if math.prod(policy.event_shape) > LARGEST:
        raise CheckpointError(f"{folder} has states of shape {event_shape}: too large to be meant")
    return policy


def _is_floating(dtype: Any) -> bool:
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point
