"""Why adjoint matching learns slowly between modes: how far the norms of its adjoints spread.

    python scripts/bench/adjoint_tails.py [--paths 16384]

Paths are of the exact tilt and adjoints go back through the exact base, so that nothing here is of
a network or of training. An adjoint is what the velocity is regressed on.
"""

import argparse

import torch
from page import table, write_page
from torch import Tensor

from alignflow.finetuning import MemorylessRollout
from alignflow.finetuning.adjoint_matching import walk_back
from alignflow.interpolants import Linear
from alignflow.targets import mixture, mixture_quadratic_reward, ring, ring_reward

JUMPS, DEVIATION, BATCH = 16, 2.85, 2048
BINS = 10


def adjoints(base, tilt, reward, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Times and norms of adjoints at every node of a batch of paths."""
    time = torch.rand(BATCH, generator=generator, dtype=torch.float64)
    noise = torch.randn(BATCH, *base.event_shape, generator=generator, dtype=torch.float64)
    start = Linear().state(noise, tilt.sample(BATCH, generator=generator), time)
    path = MemorylessRollout(JUMPS, data_deviation=DEVIATION)(tilt, start, time, None, generator)
    end = path.endpoint.requires_grad_()
    (adjoint,) = torch.autograd.grad(-reward.score(end).sum(), end)
    steps = list(walk_back(base, path, adjoint))
    times = torch.cat([step.node.time for step in steps])
    return times, torch.cat([step.at_node.norm(dim=1) for step in steps])


def share_of_most(values: Tensor) -> float:
    """Of a sum of positive values, what the largest hundredth of them carry."""
    most = values.topk(len(values) // 100).values
    return (most.sum() / values.sum()).item()


def spread(base, reward, paths: int) -> str:
    generator = torch.Generator().manual_seed(0)
    base = base.double()
    tilt = base.tilted(reward, 1.0).double()
    found = [adjoints(base, tilt, reward, generator) for _ in range(paths // BATCH)]
    times, norms = (torch.cat(parts) for parts in zip(*found, strict=True))
    rows = []
    for k in range(BINS):
        norm = norms[(times >= k / BINS) & (times < (k + 1) / BINS)]
        numbers = [norm.median(), norm.mean(), norm.max()]
        shares = [share_of_most(norm), share_of_most(norm.square())]
        rows.append([f"{k / BINS:.1f} to {(k + 1) / BINS:.1f}", *(f"{x:.3g}" for x in numbers),
                     *(f"{x:.0%}" for x in shares)])  # fmt: skip
    most = "1 % of paths carry of the"
    return table(["time", "median", "mean", "largest", f"{most} mean", f"{most} square"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=16384)
    paths = parser.parse_args().paths
    eight = mixture(dimension=8)
    cases = {
        "ring": (ring(), ring_reward()),
        "mixture 8-D": (eight, mixture_quadratic_reward(eight)),
    }
    about = (
        f"Norms of the lean adjoint on {paths:,} paths of the exact tilt at strength 1, in {JUMPS} "
        "steps, back through the exact base. Where modes are apart few paths run between them, "
        "and their adjoints are what moves mass from one to another: a batch without one of them "
        "says little of it, a batch with one is led by it, and a bound on them takes it away."
    )
    parts = (f"## {name}\n\n{spread(*case, paths)}" for name, case in cases.items())
    write_page("adjoint_tails", "How far the adjoints of adjoint matching spread", about, *parts)


if __name__ == "__main__":
    main()
