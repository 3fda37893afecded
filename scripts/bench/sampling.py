"""Sampling with a reward's gradient, against the same loop written by hand and by others.

    python scripts/bench/sampling.py [--threads 2]

Two jobs on one network: steps of a solver with the reward's gradient taken back through all of them
to the noise, and lookahead steering, whose gradient goes back through one jump in each step. Peers
are timed where they are installed: torchdiffeq, and flow_matching, whose solver is built on it.
torchcfm has no sampler.
"""

import argparse
from collections.abc import Callable

import torch
from page import write_page
from side_by_side import compare
from torch import Tensor, nn
from torchdiffeq import odeint

import alignflow as af
from alignflow.policies import MLP, FlowMapPolicy, UNet

STEPS = 4
STEP_SIZE = 0.1


@af.reward(differentiable=True)
def bowl(x):
    return -x.flatten(1).square().mean(1)


def to_the_noise(sample: Callable[[Tensor], Tensor], noise: Tensor) -> Callable[[], Tensor]:
    """A call that gives the gradient of the samples' reward in the noise."""

    def call():
        x = noise.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(bowl(sample(x)).sum(), x)
        return gradient

    return call


def solvers(network: nn.Module, shape: tuple[int, ...]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Euler's rule with equal steps, by each library."""
    policy = FlowMapPolicy(network, shape)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        t = t.expand(len(x))
        return network(x, t, t)

    def by_hand(x):
        for k in range(STEPS):
            x = x + velocity(torch.tensor(k / STEPS), x) / STEPS
        return x

    def by_jumps(x):
        for k in range(STEPS):
            x = policy.flow_map(x, k / STEPS, (k + 1) / STEPS)
        return x

    grid = torch.linspace(0, 1, STEPS + 1)
    calls = {
        "plain torch": by_hand,
        "alignflow": by_jumps,
        "torchdiffeq": lambda x: odeint(velocity, x, grid, method="euler")[-1],
    }
    try:
        from flow_matching.solver import ODESolver  # pyright: ignore[reportMissingImports]

        solver = ODESolver(velocity_model=lambda x, t: velocity(t, x))
        calls["flow_matching"] = lambda x: solver.sample(
            x, step_size=1 / STEPS, method="euler", enable_grad=True
        )
    except ImportError:
        pass
    return calls


def steering(network: nn.Module, shape: tuple[int, ...], n: int) -> dict[str, Callable[[], object]]:
    """Lookahead: jump, plus a step up the reward of where the state would end."""
    steerer = af.steer(
        FlowMapPolicy(network, shape), bowl, "lookahead", steps=STEPS, step_size=STEP_SIZE
    )

    def jump(x, s, t):
        s, t = torch.full((len(x),), s), torch.full((len(x),), t)
        return x + (t - s).reshape(-1, *[1] * len(shape)) * network(x, s, t)

    def by_hand():
        x = torch.randn(n, *shape)
        for k in range(STEPS):
            s, t = k / STEPS, (k + 1) / STEPS
            leaf = x.requires_grad_()
            (gradient,) = torch.autograd.grad(bowl(jump(leaf, s, 1.0)).sum(), leaf)
            with torch.no_grad():
                x = jump(x, s, t) + STEP_SIZE * gradient
        return bowl(x)

    return {"plain torch": by_hand, "alignflow": lambda: steerer.sample(n)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    cases = {
        "MLP 256 x 3, batch 64": (MLP(2), (2,), 64, 101),
        "MLP 256 x 3, batch 1024": (MLP(2), (2,), 1024, 51),
        "U-Net, batch 32": (UNet(), (3, 16, 16), 32, 9),
    }
    sections = []
    for title, (network, shape, n, rounds) in cases.items():
        network.eval().requires_grad_(False)
        noise = torch.randn(n, *shape)
        calls = {name: to_the_noise(call, noise) for name, call in solvers(network, shape).items()}
        title = f"{STEPS} steps, {title}"
        sections += [
            compare(f"Gradient in the noise through {title}", "plain torch", calls, rounds),
            compare(f"Lookahead in {title}", "plain torch", steering(network, shape, n), rounds),
        ]
    about = (
        "A call draws a batch with the gradient of its reward. "
        "Calls alternate in one process; a ratio is of one round."
    )
    write_page("sampling", "Sampling with a reward's gradient", about, *sections)


if __name__ == "__main__":
    main()
