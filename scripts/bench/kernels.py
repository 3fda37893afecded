"""The kernels in torch, some rows at a time, against plain torch and `torch.compile`, on a CPU.

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

SIZES = (32_768, 131_072)
WIDTH = 256
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


PROBLEMS: dict[str, Callable] = {
    "soft cross-entropy and gradient": loss,
    f"fused head of width {WIDTH}, gradient in hidden states": head,
    "the same, and in the head": learned_head,
    "simplex step": sampled_step,
    "simplex step and gradient": step,
    f"soft embedding of width {WIDTH}, gradient in logits": embedding,
}


def measured(problem: str, way: str, N: int, V: int, rounds: int) -> tuple[float, float]:
    """Processor seconds and MiB of a call."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours, plain, arguments, learned = PROBLEMS[problem](N, V)
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

    call(PROBLEMS[problem](8, 64)[2])
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
    cases = [(problem, V) for problem in PROBLEMS for V in SIZES]
    for problem, V in track(cases, "problems"):
        found = {way: measured_alone(problem, way, options.rows, V, options.rounds) for way in WAYS}
        for way, (seconds, peak) in found.items():
            ratios = (f"{seconds / found[PLAIN][0]:.2f}", f"{peak / found[PLAIN][1]:.2f}")
            row = [problem, f"{V:,}", way, f"{seconds:.2f}", ratios[0], f"{peak:,.0f}", ratios[1]]
            rows.append(row)
            print(row, flush=True)
    head_of_table = ["", "V", "", "seconds", "ratio", "peak memory, MiB", "ratio"]
    about = (
        f"{options.rows:,} rows in float32. Seconds are the least processor time of "
        f"{options.rounds} call(s) on one thread, memory is beyond arguments, result and gradients."
    )
    write_page("kernels", "Kernels in torch on a CPU", about, table(head_of_table, rows))


if __name__ == "__main__":
    main()
