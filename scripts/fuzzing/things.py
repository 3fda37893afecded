"""What the cases speak of: small models, rewards and data, by the names that expressions use."""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import alignflow as af
from alignflow import (
    data,
    decoding,
    distillation,
    envs,
    finetuning,
    policies,
    rewards,
    steering,
    targets,
)

__all__ = ["namespace"]


@af.reward(differentiable=True)
def red(points):
    """The first coordinate."""
    return points[:, 0]


@af.reward
def written(states):
    """How often the first token is the first of all."""
    return states[:, 0, 0]


def black(points):
    """The same as a black box."""
    return points[:, 0]


class Doubled(decoding.Decoder):
    """States twice as large, registered by no name."""

    def forward(self, x):
        return 2 * x


def namespace(folder: Path) -> dict[str, Any]:
    """Names and what they stand for; files are made anew, in the folder."""
    return _made_once() | _files(folder)


@functools.cache
def _made_once() -> dict[str, Any]:
    """Made once: what a case does to it dies with the process of the case."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _modules() | _models() | _data()


def _modules() -> dict[str, Any]:
    nodes = {name: getattr(finetuning, name) for name in finetuning.__all__}
    losses = {name: getattr(distillation, name) for name in distillation.__all__}
    return {
        **losses,
        **nodes,
        "af": af,
        "torch": torch,
        "np": np,
        "functools": functools,
        "nan": math.nan,
        "inf": math.inf,
        "Path": Path,
        "data": data,
        "decoding": decoding,
        "steering": steering,
        "targets": targets,
        "policies": policies,
        "rewards": rewards,
        "envs": envs,
    }


def _models() -> dict[str, Any]:
    policy = af.FlowMapPolicy(policies.MLP(2, width=8, depth=1), (2,)).eval()
    labelled = af.FlowMapPolicy(policies.MLP(2, width=8, depth=1, classes=3), (2,)).eval()
    untrained: Any = af.learn_value.build(policy, red)
    letters = af.FlowMapPolicy(policies.TokenMLP(2, 3, width=8, depth=1), (2, 3), "simplex").eval()
    image = policies.UNet(channels=1, widths=(32,), attention=(False,), blocks=1)
    return {
        "network": torch.nn.Linear(2, 2),
        "policy": policy,
        "labelled": labelled,
        "letters": letters,
        "stochastic": policy.with_context().eval(),
        "images": af.FlowMapPolicy(image, (1, 8, 8), decode="image").eval(),
        "ring": targets.ring(modes=3),
        "value": untrained.value.eval(),
    }


def _data() -> dict[str, Any]:
    x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    return {
        "Doubled": Doubled,
        "red": red,
        "black": black,
        "written": written,
        "points": x,
        "labels": torch.arange(16) % 3,
        "pictures": torch.rand(4, 1, 8, 8),
        "x": x[:4],
    }


def _files(folder: Path) -> dict[str, Any]:
    (folder / "a_file").write_text("text")
    (folder / "precious").mkdir()
    (folder / "precious" / "thesis.txt").write_text("years of work")
    (folder / "album").mkdir()
    np.save(folder / "array.npy", np.zeros((4, 2), np.float32))
    Image.new("RGB", (8, 8)).save(folder / "album" / "a.png")
    return {
        "fresh": str(folder / "fresh"),
        "a_file": str(folder / "a_file"),
        "precious": str(folder / "precious"),
        "album": str(folder / "album"),
        "array": str(folder / "array.npy"),
    }
