"""Tokens and strings a second: an autoregressive model with a cache, and a flow map in few steps.

    python scripts/bench/text_speed.py [--device cuda] [--data molecules] [--width 192] [--depth 5]

Both are of one width and depth, and untrained: what they draw does not matter here. Calls alternate
in one process. Compiled steps and networks stand beside plain ones; on a GPU the step is captured
as a graph, where its cache stays in place. Peak memory is what a call adds to the model: counted by
the device, or, on a CPU, that of a fresh process.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from page import table, write_page
from process_memory import mebibytes
from rich.progress import track
from torch import Tensor, nn

from alignflow import data
from alignflow.flow_map import FlowMap
from alignflow.policies import CausalTransformer, FlowMapPolicy, text_policy
from alignflow.policies.networks.causal import Cache

DATA = {"names": data.names, "fragments": data.fragments, "molecules": data.molecules}
STEPS = (1, 4)
BATCHES = (1, 64)
AUTOREGRESSIVE = "autoregressive, with a cache"
COMPILED = ", compiled"
ABOUT = """\
{data}: {length} tokens of {size}, width {width}, depth {depth}, on {device}. Median and range of
{rounds} rounds, in which the calls alternate. All {length} tokens are drawn; an autoregressive
model may stop where all strings of a batch have ended, which here happens by chance only."""
Call = Callable[[], object]


class Endless(CausalTransformer):
    """One that never draws the padding, so that each string takes all of its tokens."""

    def step(self, tokens: Tensor, places: Tensor, cache: Cache) -> Tensor:
        logits = super().step(tokens, places, cache)
        return torch.cat([logits[..., :1] - 1e4, logits[..., 1:]], dim=-1)


class Captured:
    """A step as a CUDA graph, with a token, a place and a cache that stay where they are.

    The cache that it is given is not used; what an earlier string left in its own is masked.
    """

    def __init__(self, model: CausalTransformer, n: int):
        self.token = torch.zeros((n, 1), dtype=torch.long, device=model.device)
        self.place = torch.zeros(1, dtype=torch.long, device=model.device)
        cache, stream = model.empty_cache(n), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(3):
                model.step(self.token, self.place, cache)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.logits = model.step(self.token, self.place, cache)

    def __call__(self, token: Tensor, place: Tensor, cache: Cache) -> Tensor:
        self.token.copy_(token)
        self.place.copy_(place)
        self.graph.replay()
        return self.logits


def models(options: argparse.Namespace) -> tuple[CausalTransformer, FlowMapPolicy]:
    torch.manual_seed(0)
    strings = DATA[options.data]()
    size = {"width": options.width, "depth": options.depth, "heads": options.heads}
    model = Endless(*strings.event_shape, **size)
    return model.to(options.device), text_policy(strings, **size).to(options.device)


def calls(options: argparse.Namespace, n: int) -> dict[str, Call]:
    """What draws the tokens (n, L) of n strings, by name."""
    model, policy = models(options)
    generator = torch.Generator(options.device).manual_seed(0)
    found: dict[str, Call] = {AUTOREGRESSIVE: partial(model.sample, n, generator)}
    found |= {_name(steps): partial(_jump, policy, n, steps, generator) for steps in STEPS}
    if options.compile:
        step = Captured(model, n) if model.device.type == "cuda" else torch.compile(model.step)
        found[AUTOREGRESSIVE + COMPILED] = partial(model.sample, n, generator, step=step)
        fast = compiled(policy)
        for steps in STEPS:
            found[_name(steps) + COMPILED] = partial(_jump, fast, n, steps, generator)
    return found


def compiled(policy: FlowMapPolicy) -> FlowMapPolicy:
    """A policy of the same weights, whose network is compiled."""
    mode = "reduce-overhead" if policy.device.type == "cuda" else None
    network = _Compiled(policy.module, mode)
    return FlowMapPolicy(network, policy.event_shape, parametrization="simplex").to(policy.device)


class _Compiled(nn.Module):
    def __init__(self, network: nn.Module, mode: str | None):
        super().__init__()
        self.network, self.call = network, torch.compile(network, mode=mode)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition=None) -> Tensor:
        # a graph's output is written over by its next run
        return self.call(x, s, t, condition).clone()


def _jump(policy: FlowMap, n: int, steps: int, generator: torch.Generator) -> Tensor:
    return policy.sample(n, steps, generator=generator).argmax(-1)


def _name(steps: int) -> str:
    return f"flow map, {steps} step{'s' if steps > 1 else ''}"


def timed(found: dict[str, Call], rounds: int, device: str, title: str) -> dict[str, list[float]]:
    """Seconds of each call in each round, in order, after two rounds that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for counted in track([False] * 2 + [True] * rounds, title):
        for name, call in found.items():
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return {name: sorted(times) for name, times in seconds.items()}


def peak(call: Call, device: str) -> float:
    """MiB that a call takes at most, beside what there was before it; on a CPU right only where
    the process has held no more before."""
    if device == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    held = mebibytes("VmRSS")
    call()
    return mebibytes("VmHWM") - held


def peak_apart(name: str, n: int) -> float:
    """Peak memory of a call in a fresh process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--no-compile"]
    command += ["--peak", name, "--batch", str(n)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def section(options: argparse.Namespace, n: int, length: int) -> str:
    """The table of one batch size."""
    found = calls(options, n)
    times = timed(found, options.rounds, options.device, f"batch {n}")
    rows = []
    for name, seconds in times.items():
        middle = seconds[len(seconds) // 2]
        apart = options.device == "cpu"
        # a compiler's own memory is no model's
        memory = "" if apart and COMPILED in name else None
        if memory is None:
            memory = f"{peak_apart(name, n) if apart else peak(found[name], options.device):.1f}"
        rows.append(
            [
                *(name, f"{1e3 * middle:.2f}", f"{1e3 * seconds[0]:.2f} - {1e3 * seconds[-1]:.2f}"),
                *(f"{n * length / middle:,.0f}", f"{n / middle:,.1f}", memory),
            ]
        )
    head = ["", "median ms", "range", "tokens a second", "strings a second", "peak memory, MiB"]
    return f"## Batch {n}\n\n{table(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=DATA, default="molecules")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak is not None:
        print(peak(calls(options, options.batch)[options.peak], options.device))
        return
    length, size = DATA[options.data]().event_shape
    device = torch.cuda.get_device_name() if options.device == "cuda" else "a CPU"
    about = ABOUT.format(
        length=length,
        size=size,
        device=device,
        data=options.data.capitalize(),
        width=options.width,
        depth=options.depth,
        rounds=options.rounds,
    )
    name = "text_speed" if options.device == "cpu" else "text_speed_gpu"
    sections = [section(options, n, length) for n in BATCHES]
    write_page(name, "Drawing strings: autoregressive, and a flow map", about, *sections)


if __name__ == "__main__":
    main()
