"""What only a GPU can show, measured within a limit of time and written as docs/gpu/<device>.md.

    python scripts/gpu_check.py [--minutes 8] [--device cuda] [--folder docs/gpu] [--parts kernels]

Its parts, in order: the tests marked `gpu`; the kernels beside torch and `torch.compile`; a step of
training text with the kernels and without; throughput and peak memory of sampling beside the CPU's;
each steerer and each tuner once, in seconds beside the CPU's and with how far its samples are from
the CPU's of the same noise; the demo in fp32 and bf16. A part that fails is written down as failed,
and one that no time is left for as left out; the exit status is 1 if one failed. Some parts alone
are chosen by how their names begin; their page has their names in its own.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_kernels import kernels
from limits import FAILED, Limit, failed
from rich.progress import track
from tensordict import TensorDict

import alignflow as af
from alignflow.benchmark.tables import markdown_table
from alignflow.distillation import PSD, FlowMapLoss
from alignflow.finetuning import METHODS
from alignflow.policies.networks import TokenDiT
from alignflow.precision import autocast
from alignflow.rewards import Length

ROOT = Path(__file__).parents[1]
BATCH = {"cuda": 256, "cpu": 32}  # portraits sampled at once
# strings, positions, tokens, width and depth of a step of training text
TEXT: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "cuda": ((512, 32, 64, 256, 6), (16, 64, 32_768, 512, 6)),
    "cpu": ((4, 4, 16, 16, 1),),
}
# what needs a posterior map or a target is run with the model that has one
POSTERIOR_MAP = ("mfm_g", "mfm_gf", "search")
WITHOUT_TARGET = ("exact", "custom")


def measured(call: Callable[[], object], device: torch.device) -> tuple[float, float | None]:
    """Seconds of a call, and its peak memory in MiB where the device counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter() - start, torch.cuda.max_memory_allocated(device) / 2**20
    return time.perf_counter() - start, None


def tests(device: torch.device, limit: Limit) -> str:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=max(limit.left, 1)
    )
    last = done.stdout.strip().rpartition("\n")[2]
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    failed = [f"{FAILED}{line}" for line in lines]
    return "\n\n".join([f"`pytest -m gpu`: {last}", *failed])


def text_training(device: torch.device, limit: Limit) -> str:
    """A step of training text, anchor and semigroup, over a small and a large vocabulary."""
    rows = []
    for size in TEXT[device.type]:
        for precision in ("fp32", "bf16"):
            for way, mode in (("with kernels", "auto"), ("without", "reference")):
                if limit.left < 10:
                    continue
                with af.kernels.use(mode):
                    found = _text_step(*size, precision, device)
                rows.append([f"N, L, V = {size[:3]}", precision, way, *found])
    head = ["", "", "", "milliseconds, median of 5", "peak memory, MiB", "loss of the first step"]
    return markdown_table(head, rows)


def _text_step(
    n: int, length: int, vocabulary: int, width: int, depth: int, precision: str, device
) -> tuple[str, str, str]:
    torch.manual_seed(0)
    network = TokenDiT(length, vocabulary, width, depth)
    policy = af.FlowMapPolicy(network, (length, vocabulary), parametrization="simplex").to(device)
    generator = torch.Generator(device).manual_seed(0)
    loss = FlowMapLoss(policy, PSD(), diagonal_fraction=0.5, generator=generator)
    data = torch.randint(vocabulary, (n, length)).to(device)
    batch, losses = TensorDict({"data": data}, batch_size=n), []

    def step() -> None:
        policy.zero_grad()
        with autocast(precision, device):
            total = sum(loss(batch).values(), torch.zeros((), device=device))
        total.backward()
        losses.append(total.detach())

    step()  # what is made once is not counted
    found = [measured(step, device) for _ in range(5)]
    seconds, memory = sorted(seconds for seconds, _ in found)[2], found[0][1]
    shown = "" if memory is None else f"{memory:.0f}"
    return f"{1e3 * seconds:.3g}", shown, f"{losses[0].item():.5f}"


def throughput(device: torch.device, limit: Limit) -> str:
    """Samples a second of the shipped portraits in four steps, and peak memory."""
    rows = []
    places = [(device, "fp32"), (device, "bf16"), (torch.device("cpu"), "fp32")]
    for place, precision in dict.fromkeys(places):
        policy, n = af.load("avatars").to(place), BATCH[place.type]

        def sample(policy=policy, n=n, place=place, precision=precision):
            with autocast(precision, place):
                policy.sample(n, steps=4, generator=0)

        sample()  # what is made once is not counted
        found = [measured(sample, place) for _ in range(5)]
        seconds = sorted(seconds for seconds, _ in found)
        memory = found[0][1]
        rows.append(
            [
                f"{place.type}, {precision}",
                str(n),
                f"{n / seconds[2]:.0f}",
                f"{n / seconds[-1]:.0f} - {n / seconds[0]:.0f}",
                "" if memory is None else f"{memory:.0f}",
            ]
        )
    head = ["", "batch", "samples a second, median of 5", "range", "peak memory, MiB"]
    about = "Portraits of 3 x 16 x 16 by a DiT of 5.5 M parameters, four steps."
    return f"{about}\n\n{markdown_table(head, rows)}"


@af.reward(differentiable=True)
def brightness(endpoint):
    """Mean of the pixels."""
    return endpoint.flatten(1).mean(1)


def steerers(device: torch.device, limit: Limit) -> str:
    """Each steerer once, on both devices, from the same noise."""
    methods = [method for method in af.steer.methods() if method not in WITHOUT_TARGET]

    def run(method: Any, place: torch.device) -> tuple[float, float | None, torch.Tensor]:
        policy = af.load("avatars_posterior" if method in POSTERIOR_MAP else "avatars").to(place)
        steerer = af.steer(policy, brightness, method, strength=2.0, steps=2)
        found = {}
        steerer.sample(2, generator=0)
        taken = measured(lambda: found.update(out=steerer.sample(4, generator=0)), place)
        return *taken, found["out"]["state"].cpu()

    return _beside(methods, run, device, limit, "largest difference of a state")


def tuners(device: torch.device, limit: Limit) -> str:
    """Each tuner for a few steps, on both devices, from the same seed."""

    def run(method: Any, place: torch.device) -> tuple[float, float | None, torch.Tensor]:
        draws_tokens = METHODS[method].needs_logits
        policy = af.load("names" if draws_tokens else "ring").to(place)
        reward = Length() if draws_tokens else first
        without_pool = draws_tokens or method in ("direct", "adjoint_matching", "grpo")
        options: dict[str, Any] = {} if without_pool else {"pool": 256}
        found = {}

        def tune() -> None:
            found["tuned"] = af.finetune(
                policy, reward, method, steps=10, batch_size=64, generator=0, **options
            )

        taken = measured(tune, place)
        return *taken, found["tuned"].sample(64, steps=1, generator=0).cpu()

    methods = list(af.finetune.methods())
    return _beside(methods, run, device, limit, "largest difference of a sample after 10 steps")


@af.reward(differentiable=True)
def first(endpoint):
    """The first coordinate."""
    return endpoint[:, 0]


def _beside(methods, run, device: torch.device, limit: Limit, difference: str) -> str:
    """A table of methods on a device beside the CPU; what fails is named in it."""
    rows = []
    for method in track(methods, "methods"):
        if limit.left < 10:
            rows.append([method, "left out", "", "", ""])
            continue
        try:
            seconds, memory, here = run(method, device)
            on_cpu, _, there = run(method, torch.device("cpu"))
            apart = f"{(here - there).abs().max().item():.1e}"
            shown = "" if memory is None else f"{memory:.0f}"
            rows.append([method, f"{seconds:.3g}", f"{on_cpu:.3g}", shown, apart])
        except Exception as error:  # a check names what failed and goes on
            rows.append([method, failed(error), "", "", ""])
    head = ["", f"seconds, {device.type}", "seconds, cpu", "peak memory, MiB", difference]
    return markdown_table(head, rows)


def demo(precision: str) -> Callable[[torch.device, Limit], str]:
    """The demo of the README in a precision."""

    def run(device: torch.device, limit: Limit) -> str:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "alignflow.cli", "run", "experiment=avatars_glasses"]
            command += [
                "+beside.lookahead.method=lookahead",
                "+beside.lookahead.steps=4",
                f"device={device.type}",
                f"precision={precision}",
                f"hydra.run.dir={folder}",
            ]
            start = time.perf_counter()
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=max(limit.left, 1)
            )
            seconds = time.perf_counter() - start
            if done.returncode:
                raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
            result = json.loads((Path(folder) / "stages/evaluate/result.json").read_text())
        rows = [
            [model["name"], *(f"{value:.3f}" for value in model["rates"]["glasses"])]
            for model in [*result["models"], result["tilt"]]
        ]
        head = ["", "portraits with glasses", "95 % from", "to"]
        return f"{seconds:.0f} seconds in all.\n\n{markdown_table(head, rows)}"

    return run


PARTS: dict[str, Callable[[torch.device, Limit], str]] = {
    "Tests": tests,
    "Kernels": kernels,
    "Training text": text_training,
    "Sampling": throughput,
    "Steerers": steerers,
    "Tuners": tuners,
    "The demo, fp32": demo("fp32"),
    "The demo, bf16": demo("bf16"),
}


def chosen(beginnings: list[str]) -> list[str]:
    """Names of the parts that begin so, in any case; all where nothing is given."""
    begin = tuple(beginning.lower() for beginning in beginnings) or ("",)
    return [name for name in PARTS if name.lower().startswith(begin)]


def sections(names: list[str], device: torch.device, limit: Limit) -> Iterator[str]:
    """Each part under its name, whatever becomes of it."""
    for name in names:
        part = PARTS[name]
        print(f"{name}: {limit.left:.0f} seconds left", flush=True)
        try:
            body = part(device, limit) if limit.left > 5 else "Left out: no time was left."
        except subprocess.TimeoutExpired:
            body = "Left out: it did not end in the time that was left."
        except Exception as error:  # the page tells what failed beside what did not
            body = failed(error)
        yield f"## {name}\n\n{body}"


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "gpu")
    parser.add_argument("--parts", nargs="+", default=[], metavar="NAME")
    arguments = parser.parse_args()
    names = chosen(arguments.parts)
    if not names:
        parser.error(f"--parts must begin names of {', '.join(PARTS)}")
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here, and nothing is written")
    name, limit = device_name(device), Limit(arguments.minutes)
    head = f"# {name}\n\nWritten by `scripts/gpu_check.sh`, torch {torch.__version__}."
    page = "\n\n".join([head, *sections(names, device, limit)]) + "\n"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    whole = len(names) == len(PARTS)
    stem = " ".join([name, *([] if whole else arguments.parts)])
    path = arguments.folder / f"{re.sub(r'[^a-z0-9]+', '_', stem.lower()).strip('_')}.md"
    path.write_text(page)
    print(f"written: {path}")
    if FAILED in page:
        sys.exit("something failed: see the page")


if __name__ == "__main__":
    main()
