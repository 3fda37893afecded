"""A run folder as a pipeline leaves it, with real portraits and constructed numbers."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from alignflow.checkpoint import save_folder
from alignflow.data.avatars import BACKGROUNDS, SIZE, _style, avatars

BASE = {"glasses": 0.20, "hat": 0.05, "beard": 0.05, "happy": 0.52, "long_hair": 0.41}
TILTED = BASE | {"glasses": 0.649}
RATES = {
    "base": BASE,
    "steered: lookahead": BASE | {"glasses": 0.74, "long_hair": 0.36},
    "tuned: weighted": BASE | {"glasses": 0.58, "happy": 0.53},
}
COST = {
    "base": {"nfe": 4, "vjps": 0, "reward_calls": 0, "reward_vjps": 0, "seconds": 0.0041},
    "steered: lookahead": {
        "nfe": 16,
        "vjps": 8,
        "reward_calls": 9,
        "reward_vjps": 8,
        "seconds": 0.031,
    },
    "tuned: weighted": {
        "nfe": 4,
        "vjps": 0,
        "reward_calls": 0,
        "reward_vjps": 0,
        "seconds": 0.0041,
    },
}
GRAPH = {
    "title": "lookahead",
    "about": "8 steps, 1 particle, 1 draw",
    "nodes": [
        {
            "name": "flow map",
            "reads": ["state", "time"],
            "writes": ["endpoint"],
            "cost": {"nfe": 1},
        },
        {"name": "reward: glasses", "reads": ["endpoint"], "writes": ["endpoint_reward"]},
        {
            "name": "point gradient",
            "reads": ["endpoint_reward"],
            "writes": ["value_gradient"],
            "cost": {"vjps": 1, "reward_vjps": 1},
        },
        {
            "name": "flow map jump",
            "reads": ["state", "value_gradient"],
            "writes": ["state"],
            "cost": {"nfe": 1},
        },
    ],
    "edges": [
        {"source": None, "target": 0, "keys": ["state", "time"]},
        {"source": 0, "target": 1, "keys": ["endpoint"]},
        {"source": 1, "target": 2, "keys": ["endpoint_reward"]},
        {"source": None, "target": 3, "keys": ["state"]},
        {"source": 2, "target": 3, "keys": ["value_gradient"]},
    ],
}
PRINTED = """lookahead: 8 steps, 1 particle, 1 draw
  posterior   flow map        state, time -> endpoint            1 NFE
  value       point gradient  endpoint -> value_gradient         1 vjp, 1 reward vjp
  transition  flow map jump   state, value_gradient -> state     1 NFE
  resampler   none            -"""


def wilson(fraction: float, n: int) -> list[float]:
    """A rate with its 95% interval."""
    center = (fraction + 1.92 / n) / (1 + 3.84 / n)
    half = 1.96 * math.sqrt(fraction * (1 - fraction) / n + 0.96 / n**2) / (1 + 3.84 / n)
    return [fraction, center - half, center + half]


def result(n: int = 2000) -> dict:
    """A result as the evaluate stage writes it: lookahead overshoots, weighted falls short."""
    random = np.random.default_rng(0)
    distances = {"steered: lookahead": 0.31, "tuned: weighted": 0.19}
    models = []
    for name, rates in RATES.items():
        has = random.random(n) < rates["glasses"]
        rewards = np.where(has, random.beta(18, 1.4, n), random.beta(1.2, 22, n))
        models.append(
            {
                "name": name,
                "rewards": rewards.tolist(),
                "rates": {attribute: wilson(rate, n) for attribute, rate in rates.items()},
                "mean_reward": [rewards.mean(), rewards.std() / n**0.5],
                "held_out": {
                    "brightness": [0.61 - 0.02 * (name != "base"), 0.003],
                    "judge_glasses": [rates["glasses"] * 0.95 + 0.01, 0.01],
                },
                "diversity": [0.452 - 0.06 * ("steered" in name), 0.004],
                "distance_to_base": {
                    metric: [scale * distances[name], scale * 0.012]
                    for metric, scale in (("sliced_w2", 1.0), ("frechet", 7.0))
                    if name in distances
                },
                "cost": dict(COST[name]),
            }
        )
    tilt = {
        "name": "exact tilt",
        "rates": {attribute: wilson(rate, 900) for attribute, rate in TILTED.items()},
        "mean_reward": [0.62, 0.011],
        "ess": 900.0,
    }
    return {
        "models": models,
        "tilt": tilt,
        "reward_name": "p(glasses)",
        "strength": 2.0,
        "event": "image",
    }


def portraits(n: int) -> dict[str, torch.Tensor]:
    """Portraits by model; aligned ones are the same drawings, some of them with glasses on."""
    import resvg_py
    from dicebear import Avatar
    from PIL import Image

    def draw(number: int, **options) -> torch.Tensor:
        options |= {"seed": f"alignflow-{number}", "size": SIZE, "backgroundColor": BACKGROUNDS}
        svg = Avatar(_style(), options).to_string()
        png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
        pixels = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255

    base = avatars(n).pixels / 255
    glasses = torch.stack([draw(i, glassesProbability=100) for i in range(n)])
    u = torch.rand(n, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    return {
        "base": base,
        "steered: lookahead": torch.where(u < 0.68, glasses, base),
        "tuned: weighted": torch.where(u < 0.48, glasses, base),
    }


def write_result(folder: Path, content: dict) -> None:
    (folder / "stages/evaluate").mkdir(parents=True, exist_ok=True)
    (folder / "stages/evaluate/result.json").write_text(json.dumps(content))


def write_run(folder: Path, n: int = 16) -> Path:
    """A full run folder with n portraits a model."""
    write_result(folder, result())
    save_folder(folder / "stages/evaluate/samples", portraits(n), {})
    for stage in ("steer", "finetune"):
        (folder / "stages" / stage).mkdir()
    (folder / "stages/steer/graph.json").write_text(json.dumps(GRAPH))
    (folder / "stages/steer/graph.txt").write_text(PRINTED)
    random = np.random.default_rng(1)
    lines = [
        {
            "step": step,
            "loss_tilt": 0.02 + 1.4 * math.exp(-step / 60) + 0.01 * random.random(),
            "gradient_norm": 0.3 + random.random() * 0.2,
            "seconds_per_step": 0.11 + random.random() * 0.01,
        }
        for step in range(10, 410, 10)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "stages/finetune/metrics.jsonl").write_text(text)
    (folder / "config.yaml").write_text("policy: avatars\nreward: glasses  # a < b & c\nseed: 0\n")
    (folder / "command.txt").write_text("alignflow run experiment=avatars_glasses seed=0\n")
    versions = {"python": "3.12.1", "packages": {"torch": "2.13.0"}, "seed": 0}
    (folder / "versions.json").write_text(json.dumps(versions))
    return folder


@pytest.fixture(scope="session")
def full_run(tmp_path_factory) -> Path:
    """A run folder with everything in it; not to be written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return write_run(tmp_path_factory.mktemp("runs") / "avatars_glasses")


@pytest.fixture
def bare_run(tmp_path) -> Path:
    """A run folder with a result and nothing else."""
    write_result(tmp_path, result())
    return tmp_path


@pytest.fixture
def make_result():
    """The result as a dictionary to change before it is written."""
    return result


@pytest.fixture
def write():
    """A callable `(folder, result)` that writes a result."""
    return write_result


@pytest.fixture
def sweep(tmp_path) -> Path:
    """Runs of three strengths, one of them cut before it had a result."""
    for number, strength in enumerate((1.0, 2.0, 4.0)):
        content = result(200)
        content["strength"] = strength
        content["models"][1]["mean_reward"][0] = 0.2 * strength
        write_result(tmp_path / str(number), content)
    (tmp_path / "3" / "stages").mkdir(parents=True)
    return tmp_path
