"""The kernels on a device: right, and how fast, beside torch and `torch.compile`.

    python scripts/gpu_kernels.py [--minutes 1.5] [--device cuda]

This is the part Kernels of gpu_check.py, alone: it needs torch and Triton only, and prints a page.

Correctness comes first, then each kernel beside torch, then what needs `torch.compile`, which takes
longest; what fails is a row, and what no time is left for is left out. Bytes are those that the
formula cannot do without (the bound in the kernel's file), so a rate above that of a copy means
that less was read than the bound says, and one below that more was, or that it waited.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from limits import Limit, failed
from torch import Tensor

from alignflow.kernels import (
    backend,
    linear_soft_cross_entropy,
    simplex_step,
    soft_cross_entropy,
    soft_embedding,
    use,
)
from alignflow.kernels.linear_soft_cross_entropy import linear_soft_cross_entropy_reference
from alignflow.kernels.simplex_step import simplex_step_reference
from alignflow.kernels.soft_cross_entropy import soft_cross_entropy_reference
from alignflow.kernels.soft_embedding import soft_embedding_reference
from alignflow.tables import markdown_table

__all__ = ["kernels"]

# rows, vocabulary and width of what is timed; a CPU only shows that the script runs
SIZES = {"cuda": (4096, 131_072, 1024), "cpu": (16, 1024, 16)}
# relative RMS that rounding explains
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
# elements, stages and warps of a block, the default first
BLOCKS = ((2048, 2, 8), (2048, 1, 8), (2048, 3, 8), (1024, 3, 4), (4096, 2, 8), (4096, 2, 16))


@dataclass
class Problem:
    """A kernel with its definition and the arguments of one call.

    Args:
        name: Of its row.
        kernel: The public function.
        definition: The same in plain torch.
        arguments: Of both.
        learned: Indices of those with a gradient.
        forward: Bytes that the result cannot do without.
        backward: Bytes that the gradient cannot do without.
        flops: Of matrix products, forward and both.
    """

    name: str
    kernel: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    arguments: list[Any]
    learned: tuple[int, ...]
    forward: float = 0.0
    backward: float = 0.0
    flops: tuple[float, float] = (0.0, 0.0)
    upstream: Tensor | None = field(default=None, repr=False)

    def run(self, function: Callable[..., Tensor]) -> Tensor:
        with torch.no_grad():
            return function(*self.arguments)

    def both(self, function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        """The result and its gradients."""
        arguments = list(self.arguments)
        for index in self.learned:
            arguments[index] = arguments[index].detach().requires_grad_()
        result = function(*arguments)
        if self.upstream is None:
            self.upstream = torch.randn_like(result)
        leaves = [arguments[index] for index in self.learned]
        return result.detach(), *torch.autograd.grad(result, leaves, self.upstream)


def kernels(device: torch.device, limit: Limit) -> str:
    """Tables of correctness, speed and memory, and of other sizes of blocks."""
    torch.manual_seed(0)
    copied = copy_bandwidth(device)
    parts = [
        "Relative RMS of result and gradients against the definition in float64.",
        _table(["", "relative RMS"], correctness(device, limit)),
        f"A copy moves {copied / 1e9:,.0f} GB/s, read and written. Rates count the bytes of the "
        "bound.",
    ]
    head = ["", "what computes", "forward, ms", "GB/s", "of a copy", "both, ms", "GB/s"]
    head += ["of a copy", "TFLOP/s", "peak memory, MiB"]
    for build in PROBLEMS:
        parts.append(_table(head, speed(build, device, limit, copied)))
    parts.append(_table(["block, stages, warps", "", "forward, ms"], blocks(device, limit)))
    for build in PROBLEMS:
        parts.append(_table(head, compiled(build, device, limit, copied)))
    return "\n\n".join(parts)


def _table(head: list[str], rows: Iterator[list[str]]) -> str:
    """Rows as they come; what fails where no row is written ends the table."""
    found = []
    try:
        for row in rows:
            print("  " + " | ".join(row), flush=True)
            found.append(row)
    except Exception as error:  # the other tables go on
        found.append([failed(error)])
        print(found[-1], flush=True)
    return markdown_table(head, [row + [""] * (len(head) - len(row)) for row in found])


# --- problems -------------------------------------------------------------------------------------


def _normal(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(shape, dtype=torch.float32, device=device).mul_(3).to(dtype)


def loss_problem(N: int, V: int, width: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """Semigroup and anchor in one: each coefficient is another number in each row."""
    z, a, b = (_normal(N, V, dtype=dtype, device=device) for _ in range(3))
    labels = torch.randint(V, (N,), device=device)
    weights = torch.randn(N, 3, device=device)
    row = N * V * dtype.itemsize
    return Problem(
        f"soft cross-entropy, {_shown(N, V, dtype)}",
        soft_cross_entropy,
        soft_cross_entropy_reference,
        [z, a, b, labels, weights],
        (0,),
        3 * row,
        4 * row,
    )


def linear_problem(N: int, V: int, width: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """A head that learns, a teacher by hidden states, and labels."""
    hidden, head, teacher = (
        torch.randn(n, width, device=device).mul_(width**-0.25).to(dtype) for n in (N, V, N)
    )
    labels = torch.randint(V, (N,), device=device)
    weights = torch.rand(N, 3, device=device)
    product = 2.0 * N * V * width
    return Problem(
        f"fused head, d = {width}, {_shown(N, V, dtype)}",
        linear_soft_cross_entropy,
        linear_soft_cross_entropy_reference,
        [hidden, head, (teacher, head), None, labels, weights],
        (0, 1),
        flops=(2 * product, 4 * product),
    )


def frozen_problem(N: int, V: int, width: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """The same with a head that does not learn."""
    problem = linear_problem(N, V, width, dtype, device)
    problem.name, problem.learned = f"{problem.name}, head frozen", (0,)
    forward, _ = problem.flops
    problem.flops = (forward, 1.5 * forward)
    return problem


def step_problem(N: int, V: int, width: int, dtype: torch.dtype, device: torch.device) -> Problem:
    logits, x = (_normal(N, V, dtype=dtype, device=device) for _ in range(2))
    s = 0.9 * torch.rand(N, device=device)
    t = s + (1 - s) * torch.rand(N, device=device)
    row = N * V * dtype.itemsize
    return Problem(
        f"simplex step, {_shown(N, V, dtype)}",
        simplex_step,
        simplex_step_reference,
        [logits, x, s, t, 0.7],
        (0, 1),
        3 * row,
        4 * row,
    )


def top_k_problem(N: int, V: int, width: int, dtype: torch.dtype, device: torch.device) -> Problem:
    problem = step_problem(N, V, width, dtype, device)
    problem.arguments.append(50)
    problem.name = f"{problem.name}, top-k 50"
    problem.forward *= 4 / 3
    return problem


def embedding_problem(
    N: int, V: int, width: int, dtype: torch.dtype, device: torch.device
) -> Problem:
    logits = _normal(N, V, dtype=dtype, device=device)
    table = torch.randn(V, width, device=device).to(dtype)
    product = 2.0 * N * V * width
    return Problem(
        f"soft embedding, d = {width}, {_shown(N, V, dtype)}",
        soft_embedding,
        soft_embedding_reference,
        [logits, table],
        (0, 1),
        flops=(product, 3 * product),
    )


def _shown(N: int, V: int, dtype: torch.dtype) -> str:
    return f"N = {N:,}, V = {V:,}, {str(dtype).removeprefix('torch.')}"


CHECKED = (
    (loss_problem, 131_072, torch.bfloat16),
    (step_problem, 131_072, torch.bfloat16),
    (linear_problem, 131_072, torch.bfloat16),
    (embedding_problem, 131_072, torch.bfloat16),
    (loss_problem, 500, torch.float32),
    (step_problem, 500, torch.float32),
    (linear_problem, 500, torch.float32),
    (embedding_problem, 500, torch.bfloat16),
    (loss_problem, 50_257, torch.bfloat16),
    (top_k_problem, 50_257, torch.bfloat16),
)
PROBLEMS = (loss_problem, step_problem, linear_problem, frozen_problem, embedding_problem)


# --- what is measured -----------------------------------------------------------------------------


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.randn(2**28 if device.type == "cuda" else 2**20, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / (1e-3 * milliseconds(lambda: target.copy_(source), device))


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Median of some calls, after the first."""
    if device.type == "cuda":
        return backend.triton.testing.do_bench(call, warmup=10, rep=60, return_mode="median")
    call()
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def peak_memory(call: Callable[[], object], device: torch.device) -> str:
    """MiB beyond what was there before a call."""
    if device.type != "cuda":
        return ""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return f"{(torch.cuda.max_memory_allocated(device) - before) / 2**20:,.0f}"


def correctness(device: torch.device, limit: Limit) -> Iterator[list[str]]:
    """Each kernel on a few rows, one block of them and many, whole and odd; each is compiled."""
    if device.type == "cuda":
        yield ["rows beyond element 2^31", _far_rows(device)]
    for build, size, dtype in CHECKED:
        if device.type == "cpu":
            size = min(size, 700)
        name = f"{build.__name__}, V = {size:,}, {dtype}"
        if limit.left < 5:
            yield [name, "left out"]
            continue
        try:
            problem = build(33, size, 128, dtype, device)
            yield [problem.name, _errors(problem, TOLERANCE[dtype])]
        except Exception as error:  # a row tells what failed, and the rest goes on
            yield [name, failed(error)]


def _far_rows(device: torch.device) -> str:
    """Losses and steps of the last rows of large matrices, against those of these rows alone."""
    try:
        V, rows = 131_072, 2**14 + 8
        logits = torch.zeros(rows, V, dtype=torch.bfloat16, device=device)
        logits[-4:] = _normal(4, V, dtype=torch.bfloat16, device=device)
        weights = torch.rand(rows, 3, device=device)
        start, end = torch.zeros(rows, device=device), torch.ones(rows, device=device)
        found, alone = (
            (
                soft_cross_entropy(z, z, None, None, weights[-len(z) :])[-4:],
                simplex_step(z, z, start[-len(z) :], end[-len(z) :])[-4:],
            )
            for z in (logits, logits[-4:].clone())
        )
        same = all(map(torch.equal, found, alone))
        return "the same as alone" if same else failed(AssertionError("other than alone"))
    except Exception as error:
        return failed(error)


def _errors(problem: Problem, tolerance: float) -> str:
    found = problem.both(problem.kernel)
    upstream, arguments = problem.upstream, problem.arguments
    assert upstream is not None
    problem.arguments = _wide(arguments)
    problem.upstream = upstream.double()
    wanted = problem.both(problem.definition)
    problem.arguments, problem.upstream = arguments, upstream
    errors = [
        ((one.double() - other).norm() / other.norm()).item()
        for one, other in zip(found, wanted, strict=True)
    ]
    shown = ", ".join(f"{error:.1e}" for error in errors)
    if not all(error <= tolerance for error in errors):
        raise AssertionError(f"relative RMS {shown}, allowed {tolerance:.0e}")
    return shown


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    return type(value)(map(_wide, value)) if isinstance(value, list | tuple) else value


def speed(
    build: Callable[..., Problem], device: torch.device, limit: Limit, copied: float
) -> Iterator[list[str]]:
    """A problem by Triton, by torch some rows at once, and by its definition."""
    if limit.left < 5:
        yield [build.__name__, "left out"]
        return
    problem = build(*SIZES[device.type], torch.bfloat16, device)
    ways = {
        "the kernel": ("auto", problem.kernel),
        "torch, some rows at once": ("reference", problem.kernel),
        "the definition": ("reference", problem.definition),
        **peers(problem),
    }
    for way, (mode, function) in ways.items():
        with use(mode):
            yield [problem.name, way, *_tried(problem, function, device, copied)]


def peers(problem: Problem) -> dict[str, tuple[str, Callable[..., Tensor]]]:
    """The nearest kernel of another library, where that is installed.

    Liger's fused JSD is a head with one teacher and no label: KL(teacher, model) at beta = 0.
    """
    if problem.kernel is not linear_soft_cross_entropy:
        return {}
    try:
        from liger_kernel.ops.fused_linear_jsd import (  # pyright: ignore[reportMissingImports]
            LigerFusedLinearJSDFunction,
        )
    except ImportError:
        return {}

    def divergence(hidden, head, teacher, *_):
        loss = LigerFusedLinearJSDFunction.apply(hidden, head, *teacher, None, 0.0)
        return loss.expand(len(hidden))

    return {"Liger's fused JSD": ("reference", divergence)}


def compiled(
    build: Callable[..., Problem], device: torch.device, limit: Limit, copied: float
) -> Iterator[list[str]]:
    """The definition of a problem by `torch.compile`, which may take half a minute to make."""
    if device.type == "cpu" or limit.left < 25:
        yield [build.__name__, "left out"]
        return
    problem = build(*SIZES[device.type], torch.bfloat16, device)
    function = torch.compile(problem.definition, dynamic=False)
    yield [problem.name, "the definition, compiled", *_tried(problem, function, device, copied)]


def _tried(problem: Problem, function, device: torch.device, copied: float) -> list[str]:
    """Rates, or what failed; the rest goes on."""
    try:
        return _rates(problem, function, device, copied)
    except Exception as error:
        return [failed(error)]
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _rates(problem: Problem, function, device: torch.device, copied: float) -> list[str]:
    cells, duration = [], torch.nan
    calls = (lambda: problem.run(function), lambda: problem.both(function))
    bounds = (problem.forward, problem.forward + problem.backward)
    for call, bound in zip(calls, bounds, strict=True):
        duration = milliseconds(call, device)
        rate = bound / (1e-3 * duration)
        cells += [f"{duration:.3g}"]
        cells += [f"{rate / 1e9:,.0f}", f"{rate / copied:.2f}"] if bound else ["", ""]
    work = problem.flops[1] / (1e-3 * duration) / 1e12
    return [*cells, f"{work:,.0f}" if work else "", peak_memory(calls[1], device)]


def blocks(device: torch.device, limit: Limit) -> Iterator[list[str]]:
    """Forward of the kernels along rows with other blocks."""
    if device.type != "cuda":
        return
    for build, module in ((loss_problem, "soft_cross_entropy"), (step_problem, "simplex_step")):
        if limit.left < 8:
            yield ["", build.__name__, "left out"]
            continue
        problem = build(*SIZES[device.type], torch.bfloat16, device)
        where = sys.modules[f"alignflow.kernels.{module}"]
        for block in BLOCKS:
            if limit.left < 4:
                yield [str(block), problem.name, "left out"]
                continue
            try:
                options = dict(zip(("BLOCK", "STAGES", "num_warps"), block, strict=True))
                with patch.object(where, "row_options", lambda size, o=options: dict(o)):
                    call = milliseconds(lambda p=problem: p.run(p.kernel), device)
                yield [str(block), problem.name, f"{call:.3g}"]
            except Exception as error:
                yield [str(block), problem.name, failed(error)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    print(kernels(torch.device(options.device), Limit(options.minutes)))


if __name__ == "__main__":
    main()
