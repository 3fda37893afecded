"""The kernels in torch, some rows at a time, against plain torch and `torch.compile`, on a CPU.

    python scripts/bench/kernels.py [--rows 1024] [--rounds 3] [--ways ...]

Each measurement has a process of its own: the least processor time of some calls on one thread,
which what else runs on a machine disturbs little, and by how much the first call raises the peak
of the process's memory over its arguments and what it returns.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from page import table, write_page
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
    """Processor seconds and MiB of a call in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours, plain, arguments, learned = PROBLEMS[problem](N, V)
    function = {OURS: ours, PLAIN: plain, COMPILED: torch.compile(plain)}[way]

    def call() -> tuple[Tensor, ...]:
        leaves = list(arguments)
        for index in learned:
            leaves[index] = leaves[index].detach().requires_grad_()
        with torch.set_grad_enabled(bool(learned)):
            result = function(*leaves)
            if not learned:
                return (result,)
            leaves = [leaves[index] for index in learned]
            return result.detach(), *torch.autograd.grad(result.sum(), leaves)

    if way == COMPILED:
        # the compiler's own memory is not counted
        large, arguments = arguments, PROBLEMS[problem](8, 64)[2]
        call()
        arguments = large
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    returned = sum(tensor.nbytes for tensor in call()) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = (peak - before) / 2**10 - returned
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds), memory


def in_a_process(*arguments: object) -> tuple[float, float]:
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        problem, way, *numbers = options.one
        print(json.dumps(measured(problem, way, *map(int, numbers))))
        return
    rows = []
    cases = [(problem, V) for problem in PROBLEMS for V in SIZES]
    for problem, V in track(cases, "problems"):
        found = {}
        for way in WAYS:
            if way not in options.ways:
                continue
            found[way] = in_a_process(problem, way, options.rows, V, options.rounds)
            seconds, memory = found[way]
            ratios = (f"{seconds / found[PLAIN][0]:.2f}", f"{memory / found[PLAIN][1]:.2f}")
            rows.append(
                [problem, f"{V:,}", way, f"{seconds:.2f}", ratios[0], f"{memory:,.0f}", ratios[1]]
            )
            print(rows[-1], flush=True)
    head_of_table = ["", "V", "", "seconds", "ratio", "peak memory, MiB", "ratio"]
    about = (
        f"{options.rows:,} rows in float32. Seconds are the least processor time of "
        f"{options.rounds} call(s) on one thread, memory is beyond arguments, result and gradients."
    )
    write_page("kernels", "Kernels in torch on a CPU", about, table(head_of_table, rows))


if __name__ == "__main__":
    main()
