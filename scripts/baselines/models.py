"""Baselines in a file: weights in half precision, and how to build the model again."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from autoregressive import Autoregressive
from masked import Masked
from safetensors import safe_open
from safetensors.torch import save_file

__all__ = ["KINDS", "Baseline", "facts", "load", "save"]

KINDS = {"autoregressive": Autoregressive, "masked": Masked}
Baseline = Autoregressive | Masked


def save(model: Baseline, path: Path, about: dict[str, Any]) -> None:
    """Write a model, and facts about it that JSON can hold, in place of what was there."""
    (kind,) = (name for name, each in KINDS.items() if type(model) is each)
    weights = {name: value.half().cpu() for name, value in model.state_dict().items()}
    told = {"kind": kind, "arguments": model.arguments, "about": about}
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
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.to(device).eval()


def facts(path: str | Path) -> dict[str, Any]:
    """What was written about the model in a file."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["about"])
