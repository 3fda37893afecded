r"""A network with a strength: adapters of its layers, which do nothing at strength 0.

.. math:: y = W x + b + U \big(\tfrac{\lambda}{\lambda_{\max}}\, g(\lambda) \odot (D x + d)\big)

U starts at zero, so that an untrained network is, at every strength, the one that it was made of.
That one stays frozen, so that a trained network is still that at strength 0. At a fixed strength
the change is one of the weights, of low rank (LoRA, 2106.09685), and `at` adds it to them.
"""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import NETWORKS, registered_name
from alignflow.strengths import StrengthRange, strength_of, without_strength

__all__ = ["StrengthNetwork"]

RANK = 32
WIDTH = 64  # of the embedding of a strength
NAME = "strength"


class StrengthNetwork(nn.Module):
    """A registered network that takes a strength beside its condition.

    Args:
        network: Its name.
        arguments: Of its constructor.
        lower: Least strength.
        upper: Largest strength.
        rank: Of the change of a layer; at most that of the layer.
    """

    def __init__(
        self, network: str, arguments: dict[str, Any], lower: float, upper: float, rank: int = RANK
    ):
        super().__init__()
        checks.choice("network", network, [name for name in NETWORKS if name != NAME])
        self.strengths = StrengthRange(lower, upper)
        self.arguments = {
            "network": network,
            "arguments": arguments,
            "lower": self.strengths.lower,
            "upper": self.strengths.upper,
            "rank": checks.count("rank", rank),
        }
        self.network = cast(Any, NETWORKS[network](**arguments)).requires_grad_(False)
        self.embedding = nn.Sequential(nn.Linear(1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        layers = {name: layer for name, layer in self.network.named_modules() if _fits(layer)}
        self.adapters = nn.ModuleList(_Adapter(layer, rank) for layer in layers.values())
        self._names = tuple(layers)
        for layer, adapter in zip(layers.values(), self.adapters, strict=True):
            layer.register_forward_hook(cast(_Adapter, adapter).adapt)

    @classmethod
    def around(cls, network: nn.Module, strengths: StrengthRange) -> "StrengthNetwork":
        """The same network with a strength, which does nothing yet.

        Raises:
            ValueError: If the network is not a registered one, or has a strength.
        """
        name = registered_name(network)
        if name is None or name == NAME:
            has = "has a strength" if name else "is not registered in alignflow.checkpoint.NETWORKS"
            raise ValueError(f"this network ({type(network).__name__}) {has}")
        given = cast(Any, network)
        parameter = next(given.parameters())
        with torch.random.fork_rng(devices=[]):  # the caller's numbers stay
            torch.manual_seed(0)
            made = cls(name, dict(given.arguments), strengths.lower, strengths.upper)
        made.to(parameter.device, parameter.dtype)
        made.network.load_state_dict(given.state_dict())
        return made

    def takes(self, event_shape: Sequence[int]) -> bool:
        """Whether it takes states of a shape."""
        return self.network.takes(event_shape)

    @property
    def null_condition(self) -> Any:
        """That of the network, without a strength."""
        return getattr(self.network, "null_condition", None)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """State (N, *E), times (N,), and a strength beside a condition -> (N, *E)."""
        strength = strength_of(condition)
        if strength is None:
            raise ValueError(f"this network needs a strength {self.strengths} beside its condition")
        label = without_strength(condition)
        with self._at(strength.to(x).expand(len(x))):
            return self.network(x, s, t, *(() if label is None else (label,)))

    @torch.no_grad()
    def at(self, strength: Tensor) -> nn.Module:
        """The network at one strength, (), as one without: changes are added to its weights."""
        network = NETWORKS[self.arguments["network"]](**self.arguments["arguments"])
        network.to(strength.device, next(self.parameters()).dtype)
        network.load_state_dict(self.network.state_dict())
        with self._at(strength.to(next(self.parameters())).expand(1)):
            for name, adapter in zip(self._names, self.adapters, strict=True):
                cast(_Adapter, adapter).merge(cast(Any, network.get_submodule(name)))
        return network

    @contextmanager
    def _at(self, strength: Tensor):
        """The adapters at strengths (N,), for as long as the network is called."""
        scaled = strength[:, None] / self.strengths.upper
        embedded = self.embedding(scaled)
        adapters = cast("list[_Adapter]", list(self.adapters))
        try:
            for adapter in adapters:
                adapter.gates = scaled * (1 + adapter.gate(embedded))
            yield
        finally:
            for adapter in adapters:
                adapter.gates = None


class _Adapter(nn.Module):
    """A change of a layer, of low rank, each rank of it with a gate.

    A layer whose weights the network reads without a call of it is left as it is.
    """

    gates: Tensor | None

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        biased = layer.bias is not None
        out, into = layer.weight.shape[0], layer.weight[0].numel()
        rank = min(rank, out, into)
        if isinstance(layer, nn.Conv2d):
            shape: Any = {
                name: getattr(layer, name)
                for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
            }
            self.down: Any = nn.Conv2d(layer.in_channels, rank, **shape, bias=biased)
            self.up: Any = nn.Conv2d(rank, out, 1, bias=False)
        else:
            self.down = nn.Linear(into, rank, bias=biased)
            self.up = nn.Linear(rank, out, bias=False)
        self.gate = nn.Linear(WIDTH, rank)
        # a step of the optimizer then moves a weight of the layer as far as a step of its own
        nn.init.normal_(self.down.weight, std=rank**-0.5)
        nn.init.zeros_(self.up.weight)
        self.gates = None

    def adapt(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """What the layer gives, (N, ...), with the change; a hook of it."""
        assert self.gates is not None
        hidden = self.down(inputs[0])
        between = [1] * (hidden.ndim - 2)
        features = (-1, *between) if isinstance(self.down, nn.Conv2d) else (*between, -1)
        return output + self.up(hidden * self.gates.reshape(len(self.gates), *features))

    def merge(self, layer: nn.Linear | nn.Conv2d) -> None:
        """Add the change, at one strength, to the weights of a layer."""
        assert self.gates is not None
        mixed = self.up.weight.flatten(1) * self.gates
        layer.weight += (mixed @ self.down.weight.flatten(1)).reshape(layer.weight.shape)
        if layer.bias is not None:
            layer.bias += mixed @ self.down.bias


def _fits(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1)
