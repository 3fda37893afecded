"""What is computed some rows at a time, against plain torch and `torch.compile`, on a CPU.

    python scripts/bench/kernels.py [--rows 1024] [--rounds 3]

Measured are the least processor time of some calls on one thread, which what else runs on a machine
disturbs little, and by how much the memory of the process (Linux) peaks above that before a call,
without what it returns. Each way has a process of its own, for the memory that one has freed is not
always used again. Compiled functions are for any size, so that compiling is not measured.
"""

import argparse
import ctypes
import gc
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from page import table, write_page
from process_memory import mebibytes
from rich.progress import track
from torch import Tensor

from alignflow import kernels
from alignflow.kernels.linear_soft_cross_entropy import linear_soft_cross_entropy_reference
from alignflow.kernels.simplex_step import simplex_step_reference
from alignflow.kernels.soft_embedding import soft_embedding_reference
from alignflow.metrics import energy_distance
from alignflow.targets import Empirical

VOCABULARIES = (32_768, 131_072)
WIDTH = 256
PIXELS, COORDINATES = 784, 16
OURS, PLAIN, COMPILED = "alignflow", "plain torch", "torch.compile"
WAYS = (PLAIN, COMPILED, OURS)


def plain_loss(logits, a, b, labels, weights) -> Tensor:
    """The loss as one writes it: a target, and its cross-entropy."""
    target = weights[:, :1] * a.softmax(-1) + weights[:, 1:2] * b.softmax(-1)
    target = target.scatter_add(1, labels[:, None], weights[:, 2:])
    return -(target * logits.log_softmax(-1)).sum(-1)


def loss(N: int, V: int):
    arguments = [*(torch.randn(N, V) for _ in range(3)), torch.randint(V, (N,)), torch.rand(N, 3)]
    return kernels.soft_cross_entropy, plain_loss, arguments, (0,)


def head(N: int, V: int, learned=(0,)):
    hidden, weight, teacher = torch.randn(N, WIDTH), torch.randn(V, WIDTH), torch.randn(N, WIDTH)
    arguments = [hidden, weight, (teacher, weight), None, torch.randint(V, (N,)), torch.rand(N, 3)]
    return (
        kernels.linear_soft_cross_entropy,
        linear_soft_cross_entropy_reference,
        arguments,
        learned,
    )


def learned_head(N: int, V: int):
    return head(N, V, (0, 1))


def step(N: int, V: int):
    arguments = [torch.randn(N, V), torch.randn(N, V), torch.zeros(N), torch.rand(N), 0.9]
    return kernels.simplex_step, simplex_step_reference, arguments, (0,)


def sampled_step(N: int, V: int):
    return *step(N, V)[:3], ()


def embedding(N: int, V: int):
    arguments = [torch.randn(N, V), torch.randn(V, WIDTH)]
    return kernels.soft_embedding, soft_embedding_reference, arguments, (0,)


def posterior_mean(N: int, M: int):
    states, data = torch.randn(N, PIXELS), torch.rand(M, PIXELS)
    stored = Empirical(data)
    return lambda x, data: stored.denoiser(x, 0.5), plain_mean, [states, data], ()


def plain_mean(x, data) -> Tensor:
    """The mean of the data that is stored, given states at time 0.5, as one writes it."""
    return (2 * x @ data.T - data.square().sum(1) / 2).softmax(1) @ data


def distance(N: int, M: int):
    arguments = [torch.randn(N, COORDINATES), torch.randn(M, COORDINATES)]
    return lambda x, y: torch.tensor(energy_distance(x, y).value), plain_distance, arguments, ()


def plain_distance(x, y) -> Tensor:
    """The energy distance as one writes it; without the error that ours comes with."""
    within = [torch.cdist(each, each).sum() / (len(each) * (len(each) - 1)) for each in (x, y)]
    return 2 * torch.cdist(x, y).mean() - within[0] - within[1]


PROBLEMS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "soft cross-entropy and gradient": (loss, VOCABULARIES),
    f"fused head of width {WIDTH}, gradient in hidden states": (head, VOCABULARIES),
    "the same, and in the head": (learned_head, VOCABULARIES),
    "simplex step": (sampled_step, VOCABULARIES),
    "simplex step and gradient": (step, VOCABULARIES),
    f"soft embedding of width {WIDTH}, gradient in logits": (embedding, VOCABULARIES),
    f"posterior mean of stored rows of {PIXELS} numbers": (posterior_mean, (60_000,)),
    f"energy distance to points of {COORDINATES} numbers": (distance, (16_384, 65_536)),
}


def measured(problem: str, way: str, N: int, size: int, rounds: int) -> tuple[float, float]:
    """Processor seconds and MiB of a call."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    build, _ = PROBLEMS[problem]
    ours, plain, arguments, learned = build(N, size)
    function = {OURS: ours, PLAIN: plain, COMPILED: torch.compile(plain, dynamic=True)}[way]

    def call(arguments: list) -> tuple[Tensor, ...]:
        leaves = list(arguments)
        for index in learned:
            leaves[index] = leaves[index].detach().requires_grad_()
        with torch.set_grad_enabled(bool(learned)):
            result = function(*leaves)
            if not learned:
                return (result,)
            leaves = [leaves[index] for index in learned]
            return result.detach(), *torch.autograd.grad(result.sum(), leaves)

    call(build(8, 64)[2])
    before, seconds, returned = reset_peak(), [], 0
    for _ in range(rounds):
        start = time.process_time()
        result = call(arguments)
        seconds.append(time.process_time() - start)
        returned = sum(tensor.nbytes for tensor in result) / 2**20
        del result
    return min(seconds), mebibytes("VmHWM") - before - returned


def measured_alone(*arguments: Any) -> tuple[float, float]:
    """`measured` in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(measured, *arguments).result()


def reset_peak() -> float:
    """Give back what is free, forget the peak of the memory, and return what is held, in MiB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return mebibytes("VmRSS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    cases = [(name, size) for name, (_, sizes) in PROBLEMS.items() for size in sizes]
    for name, size in track(cases, "problems"):
        found = {way: measured_alone(name, way, options.rows, size, options.rounds) for way in WAYS}
        for way, (seconds, peak) in found.items():
            ratios = (f"{seconds / found[PLAIN][0]:.2f}", f"{peak / found[PLAIN][1]:.2f}")
            row = [name, f"{size:,}", way, f"{seconds:.2f}", ratios[0], f"{peak:,.0f}", ratios[1]]
            rows.append(row)
            print(row, flush=True)
    head_of_table = ["", "size", "", "seconds", "ratio", "peak memory, MiB", "ratio"]
    about = (
        f"{options.rows:,} rows in float32; the size is that of the vocabulary, or the number of "
        "what is stored. Seconds are the least processor time of "
        f"{options.rounds} call(s) on one thread, memory is beyond arguments, result and gradients."
    )
    write_page("kernels", "Kernels in torch on a CPU", about, table(head_of_table, rows))


if __name__ == "__main__":
    main()
