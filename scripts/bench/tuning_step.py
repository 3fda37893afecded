"""A step of fine-tuning against the same step in plain torch, and what checkpointing saves.

    python scripts/bench/tuning_step.py [--threads 1]

By hand means the same math in plain torch: same network, rows, regression and self-distillation,
optimizer, clipping and weight average. Memory is the most that the process held during a step above
what it held before, each variant in a fresh process.
"""

import argparse
import copy
import subprocess
import sys
import time

import torch
from page import table, write_page
from process_memory import mebibytes
from side_by_side import compare
from torch import nn

from alignflow.finetuning import Direct, MapRollout, Problem, TiltMatching
from alignflow.policies import MLP, DiT, FlowMapPolicy
from alignflow.reward_module import reward
from alignflow.tilt import Tilt
from alignflow.training import Trainer

JUMPS = 8
POOL = 1024
CASES = {
    "MLP 256 x 3, batch 64": (lambda: MLP(2), (2,), 64, 101),
    "MLP 256 x 3, batch 1,024": (lambda: MLP(2), (2,), 1024, 31),
    "DiT 192 x 8, batch 32": (DiT, (3, 16, 16), 32, 5),
}


@reward(differentiable=True)
def mean(x):
    """The mean of a state: what is timed is the tuner, not the reward."""
    return x.flatten(1).mean(1)


def by_trainer(network: nn.Module, shape: tuple[int, ...], batch: int, kind: str):
    policy = FlowMapPolicy(copy.deepcopy(network), shape)
    problem = Problem(policy, Tilt(mean, 1.0))
    if kind == "tilt":
        method = TiltMatching(pool=POOL, refresh_every=10**9, candidate_steps=1)
    else:
        method = Direct(regularizer=None, rollout=MapRollout(JUMPS))
    loss = method.bind(problem)
    return Trainer(loss, policy, lambda _: loss.sample_batch(batch), steps=10**6).train_step


def by_hand(network: nn.Module, shape: tuple[int, ...], batch: int, kind: str):
    network, base = copy.deepcopy(network), copy.deepcopy(network).requires_grad_(False)
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    loss = tilt_loss(network, base, shape) if kind == "tilt" else direct_loss(network, shape)

    def step():
        optimizer.zero_grad()
        loss(batch).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(average, parameters, strict=True):
                old.lerp_(new, 0.001)

    return step


def tilt_loss(network: nn.Module, base: nn.Module, shape: tuple[int, ...]):
    with torch.no_grad():
        pool = torch.randn(POOL, *shape)
        weight = pool.flatten(1).mean(1).softmax(0) * POOL
    moments = torch.zeros(2)

    def loss(batch: int):
        rows = torch.multinomial(weight, batch, True)
        near = 3 * batch // 4
        x1, w, t = pool[rows[:near]], _wide(weight[rows[:near]], shape), torch.rand(near)
        x0 = torch.randn_like(x1)
        x, d = torch.lerp(x0, x1, _wide(t, shape)), x1 - x0
        velocity = network(x, t, t)
        with torch.no_grad():
            variate = (d - base(x, t, t)) / w
            found = torch.stack([((d - velocity) * variate).mean(), variate.square().mean()])
            moments.lerp_(found, 0.01)
            target = d - torch.minimum(moments[0] / moments[1], 4 * weight.min()) * variate
        regression = (velocity - target).square().mean()
        return 0.75 * regression + 0.25 * _semigroup(network, pool[rows[near:]])

    return loss


def direct_loss(network: nn.Module, shape: tuple[int, ...]):
    def loss(batch: int):
        x = torch.randn(batch, *shape)
        for k in range(JUMPS):
            s = torch.full((batch,), k / JUMPS)
            x = x + network(x, s, s + 1 / JUMPS) / JUMPS
        reward_loss = -x.flatten(1).mean(1).mean() / x[0].numel()
        x1, half = x.detach(), batch // 2
        t, x0 = torch.rand(half), torch.randn_like(x1[:half])
        path = torch.lerp(x0, x1[:half], _wide(t, shape))
        flow = (network(path, t, t) - (x1[:half] - x0)).square().mean()
        return reward_loss + 0.5 * flow + 0.5 * _semigroup(network, x1[half:])

    return loss


def _semigroup(network: nn.Module, x1: torch.Tensor):
    """One jump must equal two, the two held."""
    shape = x1.shape[1:]
    s, t = torch.rand(2, len(x1)).sort(0).values
    x = torch.lerp(torch.randn_like(x1), x1, _wide(s, shape))
    with torch.no_grad():
        fraction = torch.rand(len(x1))
        u = torch.lerp(s, t, fraction)
        first = network(x, s, u)
        second = network(x + _wide(u - s, shape) * first, u, t)
        teacher = torch.lerp(second, first, _wide(fraction, shape))
    return (network(x, s, t) - teacher).square().mean()


def _wide(values: torch.Tensor, shape) -> torch.Tensor:
    return values.reshape(-1, *[1] * len(shape))


def checkpointed(recompute: bool) -> tuple[float, float]:
    """Seconds and megabytes of a step of `direct` on the DiT."""
    policy = FlowMapPolicy(DiT(), (3, 16, 16))
    rollout = MapRollout(JUMPS, recompute=recompute)
    loss = Direct(regularizer=None, rollout=rollout).bind(Problem(policy, Tilt(mean, 1.0)))
    batch = loss.sample_batch(64)
    held = mebibytes("VmRSS")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        losses = loss(batch)
        # the reward's way back alone: self-distillation is the same in both
        losses["loss_reward"].backward()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[1], mebibytes("VmHWM") - held


def memory_section(threads: int) -> str:
    """Checkpointing against none, in fresh processes."""
    rows, plain = [], None
    for name, recompute in (("stored", "0"), ("recomputed", "1")):
        command = [sys.executable, __file__, "--threads", str(threads), "--memory", recompute]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = [float(word) for word in out.split()]
        plain = plain or found
        ratios = [value / first for value, first in zip(found, plain, strict=True)]
        rows.append([f"activations {name}", f"{found[0]:.2f}", f"{ratios[0]:.2f}",
                     f"{found[1]:.0f}", f"{ratios[1]:.2f}"])  # fmt: skip
    head = ["", "seconds", "ratio", "MB", "ratio"]
    title = f"`direct` through {JUMPS} jumps of DiT 192 x 8, batch 64"
    return f"## {title}\n\nMedian of 3 steps.\n\n{table(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.memory is not None:
        print(*checkpointed(bool(options.memory)))
        return
    sections = []
    for kind in ("tilt", "direct"):
        for title, (make, shape, batch, rounds) in CASES.items():
            network = make()
            calls = {
                "plain torch": by_hand(network, shape, batch, kind),
                "alignflow": by_trainer(network, shape, batch, kind),
            }
            sections.append(compare(f"`{kind}`, {title}", "plain torch", calls, rounds))
    about = (
        "The same math by hand in plain torch: `tilt` with its pool, its control variate and "
        f"self-distillation; `direct` through {JUMPS} jumps of the map, with flow matching and "
        "self-distillation on its endpoints. Calls alternate in one process; a ratio is of one "
        "round."
    )
    write_page("tuning_step", "A step of fine-tuning against plain torch", about, *sections,
               memory_section(options.threads))  # fmt: skip


if __name__ == "__main__":
    main()
