"""Baselines in a file: weights in half precision, and how to build the model again."""

import json
import os
from pathlib import Path
from typing import Any, cast

import torch
from autoregressive import Autoregressive
from masked import Masked
from safetensors import safe_open
from safetensors.torch import save_file

from alignflow.policies.networks.token_transformer import TokenTransformer

__all__ = ["KINDS", "Baseline", "facts", "load", "save"]

Baseline = Autoregressive | Masked


def masked(*sizes: int, **named: int) -> Masked:
    """Masked diffusion by a `TokenTransformer` of some sizes."""
    return Masked(TokenTransformer(*sizes, **named))


KINDS = {"autoregressive": Autoregressive, "masked": masked}


def save(model: Baseline, path: Path, about: dict[str, Any]) -> None:
    """Write a model, and facts about it that JSON can hold, in place of what was there."""
    network = _network(model)
    kind = "autoregressive" if network is model else "masked"
    weights = {name: value.half().cpu() for name, value in network.state_dict().items()}
    told = {"kind": kind, "arguments": network.arguments, "about": about}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    save_file(weights, beside, {name: json.dumps(value) for name, value in told.items()})
    os.replace(beside, path)


def load(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """The model in a file, in float32, for evaluation."""
    with safe_open(path, "pt") as file:
        told = {name: json.loads(value) for name, value in file.metadata().items()}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = KINDS[told["kind"]](**told["arguments"])
    _network(model).load_state_dict({name: value.float() for name, value in weights.items()})
    return model.to(device).eval()


def facts(path: str | Path) -> dict[str, Any]:
    """What was written about the model in a file."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["about"])


def _network(model: Baseline) -> TokenTransformer:
    """Whose weights and sizes a file holds."""
    return cast(TokenTransformer, model.network) if isinstance(model, Masked) else model
