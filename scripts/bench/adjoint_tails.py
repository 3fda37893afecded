"""Why adjoint matching learns slowly between modes: the tails of the norms of its adjoints.

    python scripts/bench/adjoint_tails.py [--paths 65536]

Paths are of the exact tilt and adjoints go back through the exact base, so that nothing here is of
a network or of training. An adjoint is what the velocity is regressed on: at the exact tilt its
mean at a state leads there from the base. How much of that way a set of paths shows is what a tuner
can learn from them.
"""

import argparse
from typing import NamedTuple

import torch
from page import table, write_page
from torch import Tensor

from alignflow.finetuning import MemorylessRollout
from alignflow.finetuning.rollouts.adjoint_matching import BackwardStep, backward_steps
from alignflow.finetuning.rollouts.memoryless import velocity_factor
from alignflow.interpolants import Linear, expand_time
from alignflow.targets import mixture, mixture_quadratic_reward, ring, ring_reward

JUMPS, DATA_STD, BATCH = 16, 2.85, 2048
BINS = 10


class Seen(NamedTuple):
    """At N nodes of paths.

    Args:
        time: (N,).
        norm: Of the adjoint, (N,).
        along: Inner product of the control and what the adjoint makes of it, weighed as the loss
            does, (N,).
        control: Square of the control, weighed so too, (N,).
    """

    time: Tensor
    norm: Tensor
    along: Tensor
    control: Tensor


def seen(step: BackwardStep) -> Seen:
    node, control = step.node, step.node.velocity - step.velocity
    factor = velocity_factor(node.time, step.end) / (2 * node.weight)
    shown = -expand_time(factor, step.at_end) * step.at_end
    along, square = ((control * other).sum(1) * node.weight for other in (shown, control))
    return Seen(node.time, step.at_node.norm(dim=1), along.detach(), square.detach())


def adjoints(base, tilt, reward, generator: torch.Generator) -> list[Seen]:
    """What is seen at every node of a batch of paths."""
    time = torch.rand(BATCH, generator=generator, dtype=torch.float64)
    noise = torch.randn(BATCH, *base.event_shape, generator=generator, dtype=torch.float64)
    start = Linear().state(noise, tilt.sample(BATCH, generator=generator), time)
    path = MemorylessRollout(JUMPS, data_std=DATA_STD)(tilt, start, time, None, generator)
    end = path.endpoint.requires_grad_()
    (adjoint,) = torch.autograd.grad(-reward.score(end).sum(), end)
    return [seen(step) for step in backward_steps(base, path, adjoint)]


def fraction_of_most(values: Tensor) -> float:
    """Of a sum of positive values, what the largest hundredth of them carry."""
    most = values.topk(len(values) // 100).values
    return (most.sum() / values.sum()).item()


def tails(base, reward, paths: int) -> str:
    generator = torch.Generator().manual_seed(0)
    base = base.double()
    tilt = base.tilted(reward, 1.0).double()
    nodes = [
        node for _ in range(paths // BATCH) for node in adjoints(base, tilt, reward, generator)
    ]
    time, norm, along, control = (torch.cat(parts) for parts in zip(*nodes, strict=True))
    rows = []
    for k in range(BINS):
        here = (time >= k / BINS) & (time < (k + 1) / BINS)
        numbers = [norm[here].median(), norm[here].mean(), norm[here].max()]
        fractions = [fraction_of_most(norm[here]), fraction_of_most(norm[here].square())]
        fractions.append((along[here].sum() / control[here].sum()).item())
        rows.append([f"{k / BINS:.1f} to {(k + 1) / BINS:.1f}", *(f"{x:.3g}" for x in numbers),
                     *(f"{x:.0%}" for x in fractions)])  # fmt: skip
    most = "1 % of paths carry of the"
    head = ["time", "median", "mean", "largest", f"{most} mean", f"{most} square"]
    return table([*head, "control shown"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=65536)
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
        "says little of it, a batch with one is led by it, and a bound on them takes it away. The "
        "control shown is the part of the way from the base's velocity to the tilt's that the mean "
        "of these adjoints has: what is missing from 100% is on paths rarer than these, or lost to "
        "the length of the steps, and cannot be learned from as many."
    )
    parts = (f"## {name}\n\n{tails(*case, paths)}" for name, case in cases.items())
    write_page("adjoint_tails", "How far the adjoints of adjoint matching spread", about, *parts)


if __name__ == "__main__":
    main()
