r"""Many Well: how far tuners are from a target with many modes, in 2, 50 and 200 dimensions.

    python scripts/bench/many_well.py [--dimensions 2 50] [--steps 800] [--tuners proximal]

.. math:: \rho(x) \propto \exp\Big(-\sum_{i \le m} (x_i^2 - 4)^2 - \tfrac12 \sum_{i > m} x_i^2\Big)

has 2^m modes of equal weight. The base is a normal, whose map is known; the reward is the log-ratio
of the target to it, so that at strength 1 the tilt is the target and log E e^r its log Z, which is
known too. What a model that was tuned has of it is judged by its own paths.

As is usual for samplers (2111.15141), the network is told the reward's gradient, clipped and
multiplied by what it learns of time; a tuner without gradients sees no more of the reward than its
values.
"""

import argparse
import math
import time
from collections.abc import Mapping

import torch
from page import table, write_page
from torch import Tensor, nn

import alignflow as af
from alignflow.finetuning import ESSRegion, MemorylessPaths
from alignflow.interpolants import expand_time
from alignflow.policies import MLP, FlowMapPolicy

STD, WELL, JUDGED, JUMPS = 1.0, 4.0, 8192, 32
WELLS = {2: 2, 50: 5, 200: 5}  # m, by dimension
CLIPS = (1.0, 5.0, 25.0)  # of the gradient: a sign where it is steep, and itself where it is not
PATHS = {"paths": MemorylessPaths(JUMPS, STD), "trust_region": ESSRegion(0.3)}
VALUES = {
    "method": "log_variance", "batch_size": 128, "learning_rate": 3e-3, **PATHS, "pool": 2048,
    "refresh_every": 16,
}  # fmt: skip
PROXIMAL = {"method": "proximal", **PATHS, "pool": 4096, "refresh_every": 40}
TUNERS: Mapping[str, dict] = {
    "log_variance": VALUES,
    "log_variance, no trust region": VALUES | {"trust_region": None},
    "log_variance, not told the gradient": VALUES | {"told": False},
    "proximal": PROXIMAL,
    "proximal, not told the gradient": PROXIMAL | {"told": False},
    "adjoint_matching": {"method": "adjoint_matching", "clip_norm": 100.0},
}
PUBLISHED = [
    ["trust-region log-variance", ".000", ".000", ".002"],
    ["log-variance", "diverged", "1.36", "1.96"],
    ["adjoint matching", "1.364", "3.43", "3.32"],
    ["reverse KL", "1.364", "3.44", "2.91"],
]


class NormalMap(nn.Module):
    """The exact map of N(0, STD^2), plus a network that is 0 before it is tuned.

    Args:
        dimension: D.
        wells: Coordinates with two wells, the first ones.
        width: Hidden units of a layer.
        told: Whether it is told the reward's gradient.
    """

    def __init__(self, dimension: int, wells: int, width: int, told: bool = True):
        super().__init__()
        self.wells, self.change = wells, MLP(dimension, width=width, depth=3)
        layers = [nn.Linear(2, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 3)]
        self.gate = nn.Sequential(*layers) if told else None
        for last in (self.change.rest[-1], layers[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        a, b = (((STD * u) ** 2 + (1 - u) ** 2).sqrt() for u in (s, t))
        # X_{s,t} = x b / a, and its average velocity without the 0/0 at s = t
        slope = ((STD**2 + 1) * (s + t) - 2) / (a * (a + b))
        # c_s times the slope of the denoiser in the state: a gradient with respect to the denoiser
        scale = STD**2 * (1 - s) / a.square()
        change = self.change(x / expand_time(a, x), s, t)
        if self.gate is not None:
            # of the others it is 0, for a base of their std
            wide = expand_time(s * STD**2 / a.square(), x) * x[:, : self.wells]
            gradient = wide / STD**2 - 4 * wide * (wide.square() - WELL)
            gates = self.gate(torch.stack([s, t], 1)).unbind(1)
            told = torch.zeros_like(wide)
            for gate, clip in zip(gates, CLIPS, strict=True):
                told = told + expand_time(gate, x) * gradient.clamp(-clip, clip)
            change = change + nn.functional.pad(told, (0, x.shape[1] - self.wells))
        return expand_time(slope, x) * x + expand_time(scale, x) * change


def reward_of(wells: int) -> af.Reward:
    """log of the target's density, not normalized, less that of the base's, which is."""

    def log_ratio(x: Tensor) -> Tensor:
        wide, rest = x[:, :wells], x[:, wells:]
        log_target = -(wide.square() - WELL).square().sum(1) - rest.square().sum(1) / 2
        log_base = -(x / STD).square().sum(1) / 2 - x.shape[1] * math.log(
            STD * (2 * math.pi) ** 0.5
        )
        return log_target - log_base

    return af.reward(differentiable=True, name="many_well")(log_ratio)


def log_partition(dimension: int, wells: int) -> float:
    """log Z, by quadrature in one well."""
    grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    well = torch.trapezoid((-(grid.square() - WELL).square()).exp(), grid).log().item()
    return wells * well + (dimension - wells) / 2 * math.log(2 * math.pi)


@torch.no_grad()
def judged(tuned, base, reward, dimension: int, wells: int) -> list[str]:
    """Errors of log Z by the mean of log w and by importance, the effective fraction, the modes."""
    generator = torch.Generator().manual_seed(1)
    paths = list(MemorylessPaths(JUMPS, STD).of(base).draw(tuned, JUDGED, generator=generator))
    end = paths[-1].end_state
    log_ratio = torch.stack([step.log_ratio for step in paths]).double().sum(0)
    log_weight = reward.score(end).double() - log_ratio
    exact = log_partition(dimension, wells)
    weights = log_weight.softmax(0)
    code = (end[:, :wells] > 0).long() @ (2 ** torch.arange(wells))
    occupied = torch.bincount(code, minlength=2**wells) / JUDGED
    entropy = -(occupied * occupied.clamp_min(1e-12).log()).sum() / (wells * math.log(2))
    return [
        f"{exact - log_weight.mean().item():.3f}",
        f"{abs(log_weight.logsumexp(0).item() - math.log(JUDGED) - exact):.3f}",
        f"{1 / weights.square().sum().item() / JUDGED:.3f}",
        f"{entropy.item():.3f}",
    ]


def measured(dimension: int, steps: int, width: int, tuners: list[str]) -> str:
    wells, reward, rows = WELLS[dimension], reward_of(WELLS[dimension]), []
    for name in tuners:
        options = {"batch_size": 256, "learning_rate": 1e-3} | TUNERS[name]
        torch.manual_seed(0)
        network = NormalMap(dimension, wells, width, options.pop("told", True))
        base = FlowMapPolicy(network, (dimension,))
        start = time.perf_counter()
        try:
            tuned = af.finetune(
                base, reward, strength=1.0, steps=steps, generator=torch.Generator().manual_seed(0),
                **options,
            )  # fmt: skip
            taken = f"{time.perf_counter() - start:.0f}"
            rows.append([name, *judged(tuned, base, reward, dimension, wells), taken])
        except FloatingPointError:
            rows.append([name, "diverged", "", "", "", ""])
        print(dimension, rows[-1], flush=True)
    head = [
        "tuner", "log Z - mean log w", "error of log Z", "effective",
        "entropy of the modes", "seconds",
    ]  # fmt: skip
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 50, 200], choices=WELLS)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--tuners", nargs="+", default=[*TUNERS], choices=TUNERS)
    given = parser.parse_args()
    about = (
        f"{given.steps:,} steps of 128 rows for `log_variance` and of 256 for others, an MLP of "
        f"width {given.width} on the exact map of a normal of standard deviation {STD:g}, one "
        "seed. The network is told the reward's gradient at the base's denoiser, clipped at "
        f"{', '.join(f'{clip:g}' for clip in CLIPS)}, times what it learns of time. Judged by "
        f"{JUDGED:,} paths of {JUMPS} steps: log Z less the mean of log w, which is the KL of "
        "paths; the error of log Z by importance weights, which misses the modes that a model "
        "does not visit; the effective fraction of w; and the entropy of "
        "the modes' weights, 1 where all 2^m have the same."
    )
    published = (
        "## Published\n\nError of log Z in 2, 50 and 200 dimensions, of networks and times of "
        "their own (2508.12511).\n\n" + table(["method", "2", "50", "200"], PUBLISHED)
    )
    parts = (
        f"## {each} dimensions, {2 ** WELLS[each]} modes\n\n"
        f"{measured(each, given.steps, given.width, given.tuners)}"
        for each in given.dimensions
    )
    write_page("many_well", "Many Well", about, *parts, published)


if __name__ == "__main__":
    main()
