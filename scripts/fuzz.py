"""Misuse, damage and kill the library at random, and count how clearly it answers.

scripts/fuzz.py                                all kinds in full, which takes most of an hour
scripts/fuzz.py --kind inputs --n 200          200 bad calls of Python functions
scripts/fuzz.py --kind kills --seed 3 --write  and the row of docs/reliability.md
scripts/fuzz.py --kind inputs --case 17        one case again, with what it answers in full
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a forked process cannot use a device of its parent's
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import torch  # noqa: E402
from fuzzing import checkpoints, inputs, kills, overrides, rewards  # noqa: E402
from fuzzing.outcome import VERDICTS, Outcome, Tally  # noqa: E402
from fuzzing.page import write_page  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402

__all__ = ["KINDS", "fuzz", "preload"]

console = Console()
PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}
BATCH = 25  # damaged checkpoints that share a process


def _inputs(n: int, seed: int) -> Iterator[Outcome]:
    cases = inputs.cases(n, seed)
    inputs.check_calls(cases)
    yield from map(inputs.try_case, cases)


def _overrides(n: int, seed: int) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = overrides.prepare(Path(folder))
        for case in overrides.cases(n, seed):
            yield overrides.try_case(case, prepared)


def _checkpoints(n: int, seed: int) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        sound = checkpoints.prepare(Path(folder))
        for first in range(0, n, BATCH):
            numbers = range(first, min(first + BATCH, n))
            yield from checkpoints.try_batch(numbers, seed, Path(folder), sound)


def _rewards(n: int, seed: int) -> Iterator[Outcome]:
    for name, use in rewards.cases(n, seed):
        yield rewards.try_case(name, use)


def _kills(n: int, seed: int) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        done, wanted = 0, {}
        for trial in range(n):
            for name, job in kills.JOBS.items():
                if done >= n:
                    return
                place = Path(folder) / name
                if name not in wanted:
                    place.mkdir()
                    wanted[name] = kills.reference(job, place)
                outcomes = kills.try_trial(name, place, *wanted[name], f"{seed}-{trial}")
                yield from outcomes[: n - done]
                done += len(outcomes)


KINDS: dict[str, tuple[Callable[[int, int], Iterator[Outcome]], int]] = {
    "inputs": (_inputs, 2000),
    "overrides": (_overrides, 300),
    "checkpoints": (_checkpoints, 10_000),
    "rewards": (_rewards, len(rewards.cases())),
    "kills": (_kills, 100),
}
"""By name: what yields n outcomes of a seed, and how many are tried in full."""


def fuzz(kind: str, n: int, seed: int = 0) -> Tally:
    """Try n cases of a kind, and say what is not clear as it comes."""
    preload()
    tally = Tally(kind)
    outcomes = KINDS[kind][0](n, seed)
    for outcome in track(outcomes, kind, total=n, console=console, transient=True):
        tally.add(outcome)
        number = len(tally.outcomes) - 1
        if outcome.verdict != "clear":
            said = f"{outcome.verdict} {kind} {number}: {outcome.what}"
            note = " ".join(outcome.note.split())[:300]
            console.print(said, f"    {note}", sep="\n", **PLAIN)
    return tally


def preload() -> None:
    """Import once what forked processes would each import."""
    import hydra  # noqa: F401
    import matplotlib.pyplot  # noqa: F401

    import alignflow.benchmark  # noqa: F401
    import alignflow.envs
    import alignflow.pictures
    import alignflow.pipeline
    import alignflow.report  # noqa: F401

    torch.set_num_threads(1)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--n", type=int, help="cases of each kind; by default as many as in full")
    parser.add_argument("--fraction", type=float, default=1.0, help="of what is tried in full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only the case of this number, told in full")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    options = parser.parse_args()
    failed = False
    for kind in options.kind:
        n = options.n or math.ceil(options.fraction * KINDS[kind][1])
        start = time.perf_counter()
        if options.case is not None:
            _tell(kind, n, options.seed, options.case)
            continue
        tally = fuzz(kind, n, options.seed)
        counts = ", ".join(f"{tally.counts[verdict]} {verdict}" for verdict in VERDICTS)
        console.print(f"{kind}: {len(tally.outcomes)} tried, {counts}", **PLAIN)
        failed |= bool(tally.failures)
        if options.write:
            write_page(tally, options.seed, time.perf_counter() - start)
    return int(failed)


def _tell(kind: str, n: int, seed: int, number: int) -> None:
    """One case again; of a Python call, with its traceback."""
    preload()
    if kind == "inputs":
        case = inputs.cases(n, seed)[number]
        console.print(case.source, markup=False)
        inputs.try_source(case.source)
        return
    for i, outcome in enumerate(KINDS[kind][0](max(n, number + 1), seed)):
        if i == number:
            console.print(f"{outcome.verdict}: {outcome.what}\n{outcome.note}", markup=False)
            return


if __name__ == "__main__":
    sys.exit(main())
