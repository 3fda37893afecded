"""The differentiable policy: a network as a flow map, saved and loaded as a folder."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from alignflow.checkpoint import CheckpointError, load_folder, load_parameters, save_folder
from alignflow.conditions import repeat_rows
from alignflow.flow_map import FlowMap
from alignflow.interpolants import (
    as_time,
    average_velocity_from_mean_denoiser,
    expand_time,
    flow_map_from_average_velocity,
    flow_map_from_mean_denoiser,
    mean_denoiser_from_average_velocity,
)
from alignflow.posteriors import InnerLook
from alignflow.targets import from_relative

from .networks import NETWORKS

__all__ = ["DECODERS", "FlowMapPolicy", "load_policy"]

FORMAT = 1
PARAMETRIZATIONS = ("average_velocity", "mean_denoiser")


def _identity(x: Tensor) -> Tensor:
    return x


def _image(x: Tensor) -> Tensor:
    """States in [-1, 1] to pixels in [0, 1]."""
    return ((x + 1) / 2).clamp(0, 1)


DECODERS = {"identity": _identity, "image": _image, "particles": from_relative}


class FlowMapPolicy(FlowMap):
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
        data_deviation: Standard deviation of the data, which the looks of a stochastic map weigh
            by.
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
        data_deviation: float = 1.0,
        facts: dict | None = None,
    ):
        super().__init__(event_shape)
        if parametrization not in PARAMETRIZATIONS:
            raise ValueError(
                f"parametrization must be one of {', '.join(PARAMETRIZATIONS)}, "
                f"got {parametrization!r}"
            )
        if decode not in DECODERS:
            raise ValueError(f"decode must be one of {', '.join(DECODERS)}, got {decode!r}")
        self.module = module
        self.parametrization = parametrization
        self.decoder = decode
        self.invertible = invertible
        self.stochastic = stochastic
        self.data_deviation = data_deviation
        self.facts = facts or {}

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition=None) -> Tensor:
        """v_{s,t}(x), (N, *E), of states (N, *E) and times (N,): what distillation trains."""
        return self._average_velocity(x, s, t, condition)

    def mean_denoiser(self, x: Tensor, s: Tensor, t: Tensor, condition=None) -> Tensor:
        """delta_{s,t}(x), (N, *E), of states (N, *E) and times (N,)."""
        return self._mean_denoiser(x, s, t, condition)

    def velocity(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        t = as_time(t, x)
        return self.average_velocity(x, t, t, condition)

    def denoiser(self, x: Tensor, t: float | Tensor, condition=None) -> Tensor:
        self.check_state(x)
        t = as_time(t, x)
        return self.mean_denoiser(x, t, t, condition)

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

    def with_context(self, data_deviation: float = 1.0) -> "FlowMapPolicy":
        """A copy whose network takes a context, which does nothing yet: `learn_posterior`'s start.

        Its draws are exact already where the data is normal, of the deviation given.

        Args:
            data_deviation: Standard deviation of the data.

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
            module = kind(**cast(dict, module.arguments) | {"context": True})
            module.load_state_dict(self.module.state_dict(), strict=False)
        return FlowMapPolicy(
            copy.deepcopy(module).to(self.device),
            self.event_shape,
            self.parametrization,
            self.decoder,
            self.invertible,
            stochastic=True,
            data_deviation=data_deviation,
            facts=self.facts,
        )

    def decode(self, x: Tensor) -> Tensor:
        return DECODERS[self.decoder](x)

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
        """Write the policy as a folder that `load_policy` reads.

        Args:
            folder: Where; an older one there is replaced as a whole.
            dtype: Of the stored numbers, e.g. torch.float16 for half the size; as they are if None.
        """
        names = {network: name for name, network in NETWORKS.items()}
        tensors = {
            k: v.to(dtype) if dtype is not None and v.is_floating_point() else v
            for k, v in self.module.state_dict().items()
        }
        facts = {
            "format": FORMAT,
            "network": names.get(type(self.module)),
            "arguments": getattr(self.module, "arguments", {}),
            "event_shape": list(self.event_shape),
            "parametrization": self.parametrization,
            "decode": self.decoder,
            "invertible": self.invertible,
            "stochastic": self.stochastic,
            "data_deviation": self.data_deviation,
            "facts": self.facts,
        }
        return save_folder(folder, tensors, facts)

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
        return InnerLook(x, s, t, state, time, self.data_deviation), (time, state)

    def _call(self, x: Tensor, s: Tensor, t: Tensor, condition, context=None) -> Tensor:
        if self.stochastic and context is None:
            context = torch.zeros_like(s), torch.zeros_like(x)
        label = () if condition is None else (condition,)
        out = self.module(x, s, t, *label, **({} if context is None else {"context": context}))
        # under autocast a network answers in a lower precision than its states have
        return out.to(x.dtype)


def load_policy(folder: str | Path, module: nn.Module | None = None) -> FlowMapPolicy:
    """Read a policy that `FlowMapPolicy.save` wrote.

    Args:
        folder: Its folder.
        module: A network of your own to hold the weights; by default the registered network that
            the folder names, built with the arguments it holds.

    Raises:
        CheckpointError: If the folder is damaged, names no registered network and no module is
            given, or its weights do not fit.
    """
    tensors, facts = load_folder(folder)
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has format {facts.get('format')!r}, expected {FORMAT}")
    if module is None:
        if facts["network"] not in NETWORKS:
            raise CheckpointError(
                f"{folder} holds a network that is not registered ({facts['network']!r}, known: "
                f"{', '.join(NETWORKS)}): pass it, af.load(folder, module=MyNet())"
            )
        network = NETWORKS[facts["network"]](**facts["arguments"])
    else:
        network = module
    load_parameters(network, tensors, str(folder))
    return FlowMapPolicy(
        network,
        facts["event_shape"],
        parametrization=facts["parametrization"],
        decode=facts["decode"],
        invertible=facts["invertible"],
        stochastic=facts.get("stochastic", False),
        data_deviation=facts.get("data_deviation", 1.0),
        facts=facts["facts"],
    ).eval()
