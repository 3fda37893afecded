"""Runs killed at random moments, continued until they are done, and held to ones that were not.

Models, samples and metrics must be the same to the bit, durations apart, and no file may be left
that an undisturbed run does not have.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from alignflow import cli

from .apart import child
from .outcome import ACCEPTED, CLEAR, ENDLESS, UNCLEAR, Outcome

__all__ = ["JOBS", "Job", "reference", "try_trial"]

PATIENCE = 60.0  # seconds that an end may take after a signal, and more than any job takes
MOST = 3  # kills of one run
SIGNALS = {signal.SIGKILL: None, signal.SIGTERM: 143, signal.SIGINT: 130}
DURATION = re.compile("second|duration|began|ended")

_COMMON = ["policy=mlp", "policy.module.width=16"]
_TRAINED = ["data=ring", "training=default", "training.steps=100", "training.batch_size=16"]
_TUNED = ["reward=ring", "finetuner=tilt", "strength=0.3", "finetuner.steps=60"]
_SMALL = "evaluation={samples: 40, base_samples: 40, steps: 2, batch_size: 10}"
_STEERED = [
    "reward=ring",
    "judge=ring",
    "steerer=lookahead",
    "steerer.steps=4",
    "strength=0.3",
    _SMALL,
]


@dataclass(frozen=True)
class Job:
    """Something long that may be killed.

    Args:
        command: Of the command line, which works in the folder `run`.
        first: What must have been run before, undisturbed.
    """

    command: tuple[str, ...]
    first: tuple[str, ...] | None = None


def _run(*overrides: str) -> tuple[str, ...]:
    return ("run", *_COMMON, "hydra.run.dir=run", *overrides)


JOBS: dict[str, Job] = {
    "pretrain": Job(_run(*_TRAINED, "training.checkpoint_every=10", "stages=[pretrain]")),
    "tune": Job(
        _run(
            *_TUNED,
            "++finetuner.checkpoint_every=10",
            "finetuner.batch_size=16",
            "finetuner.pool=64",
            "++finetuner.annealing_stages=2",
            "++finetuner.recentering=20",
            "stages=[finetune]",
        )
    ),
    "steer": Job(_run(*_STEERED, "stages=[steer, evaluate, report]")),
    "all stages": Job(
        _run(
            *_TRAINED,
            *_TUNED,
            *_STEERED,
            "finetuner.pool=64",
            "finetuner.batch_size=16",
            "training.checkpoint_every=20",
            "stages=[pretrain, finetune, steer, evaluate, report]",
        )
    ),
    "sweep": Job(
        (
            "run",
            *_COMMON,
            *_STEERED,
            "stages=[steer, evaluate, report]",
            "seed=1,2",
            "hydra.sweep.dir=run",
            "--multirun",
        )
    ),
    "report": Job(("report", "run"), _run(*_STEERED, "stages=[steer, evaluate, report]")),
}


def reference(job: Job, folder: Path) -> tuple[dict[str, str], float]:
    """What a job leaves if nothing disturbs it, and the seconds that it takes."""
    if job.first is not None:
        _until_done(job.first, folder)
    start = time.perf_counter()
    status, said = _until_done(job.command, folder)
    if status:
        raise RuntimeError(f"{' '.join(job.command)} fails undisturbed:\n{said}")
    return snapshot(folder), time.perf_counter() - start


def try_trial(
    name: str, prepared: Path, wanted: dict[str, str], seconds: float, seed: str
) -> list[Outcome]:
    """Kill a job one to three times, continue it, and compare; an outcome for each kill.

    Args:
        name: Of the job.
        prepared: A folder in which `reference` has run.
        wanted: What it left.
        seconds: That it took.
        seed: Of the moments and signals.
    """
    job = JOBS[name]
    folder = Path(tempfile.mkdtemp(prefix="alignflow-kills-"))
    try:
        if job.first is not None:
            shutil.copytree(prepared, folder, dirs_exist_ok=True)
        kills = list(_kills(name, folder, wanted, seconds, seed))
        status, said = _until_done(_next(job, folder), folder)
        fault = _compare(snapshot(folder), wanted)
        if status:
            last = (said.strip().splitlines() or ["nothing said"])[-1]
            verdict = ENDLESS if status == "endless" else UNCLEAR
            fault = verdict, f"ends with status {status}: {last}"
        return [
            Outcome(kill.what, *fault) if fault and kill.verdict == CLEAR else kill
            for kill in kills
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kills(
    name: str, folder: Path, wanted: dict[str, str], seconds: float, seed: str
) -> Iterator[Outcome]:
    chance, job = random.Random(seed), JOBS[name]
    for number in range(chance.randint(1, MOST)):
        kind, moment = chance.choice(list(SIGNALS)), chance.uniform(0.0, seconds)
        pid = _start(_next(job, folder), folder)
        if _wait(pid, moment) is not None:
            return
        began = _is_begun(folder) and not job.first
        os.kill(pid, kind)
        status = _wait(pid, PATIENCE)
        what = f"{name} (seed {seed}), kill {number + 1}: {kind.name} after {moment:.2f} s"
        if status is None:
            _end(pid)
            yield Outcome(what, ENDLESS, f"still there after {PATIENCE:.0f} s")
            continue
        # who is through says nothing of how to go on
        began = began and _compare(snapshot(folder), wanted) is not None
        yield Outcome(what, *_judge_end(kind, status, began, _said(folder)))


def _judge_end(kind: signal.Signals, status: int, began: bool, said: str) -> tuple[str, str]:
    """Of a kill: whether who sent it is told how to go on."""
    if SIGNALS[kind] is None or status == 0:
        return CLEAR, ""
    if "Traceback" in said:
        return UNCLEAR, "a traceback: " + said.strip().splitlines()[-1]
    if not began:
        return CLEAR, ""
    if status != SIGNALS[kind]:
        return UNCLEAR, f"status {status}, not {SIGNALS[kind]}"
    if "alignflow resume" not in said:
        last = (said.strip().splitlines() or [""])[-1]
        return UNCLEAR, f"does not say how to go on: {last}"
    return CLEAR, ""


def _next(job: Job, folder: Path) -> tuple[str, ...]:
    """What continues a job."""
    return ("resume", "run") if job.first is None and _is_begun(folder) else job.command


def _is_begun(folder: Path) -> bool:
    # of a sweep both: Hydra writes its file a moment before the command is stored
    run, sweep = ("config.yaml",), ("multirun.yaml", "command.txt")
    return any(all((folder / "run" / name).exists() for name in kind) for kind in (run, sweep))


def _until_done(command: tuple[str, ...], folder: Path) -> tuple[int | str, str]:
    pid = _start(command, folder)
    status = _wait(pid, PATIENCE)
    if status is None:
        _end(pid)
        return "endless", _said(folder)
    return status, _said(folder)


def _start(command: tuple[str, ...], folder: Path) -> int:
    """Run a command line in a forked process; its id."""

    def run() -> int:
        os.chdir(folder)
        said = os.open(_log(folder), os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(said, 1)
        os.dup2(said, 2)
        torch.set_num_threads(1)
        sys.argv = ["alignflow", *command]
        return cli.main(list(command))

    return child(run)


def _end(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _wait(pid: int, seconds: float) -> int | None:
    """The exit status of a process; None if it runs on after that time."""
    deadline = time.perf_counter() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        left = deadline - time.perf_counter()
        if left <= 0:
            return None
        time.sleep(min(0.005, left))


def _log(folder: Path) -> Path:
    return folder.with_name(folder.name + ".log")


def _said(folder: Path) -> str:
    path = _log(folder)
    text = path.read_text(errors="replace") if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder with a hash of what it says, durations apart."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        # event files are named by the moment and the process
        if "tensorboard" in path.parts or "__pycache__" in path.parts:
            continue
        found[name] = "a folder" if path.is_dir() else _hash(_meaning(path))
    return found


def _meaning(path: Path) -> bytes:
    content = path.read_bytes()
    # pages show durations, and Hydra's account of a sweep the directory: that they are there counts
    if path.suffix == ".html" or path.name == "multirun.yaml":
        return b""
    try:
        if path.suffix == ".safetensors":
            return _numbers(load(content))
        if path.suffix in (".json", ".jsonl"):
            parts = [content] if path.suffix == ".json" else content.splitlines()
            return "\n".join(json.dumps(_timeless(json.loads(part))) for part in parts).encode()
    except (ValueError, SafetensorError):
        pass  # half of a file, as a kill may leave it
    return content


def _numbers(tensors: dict[str, torch.Tensor]) -> bytes:
    return b"".join(
        f"{name} {value.dtype} {tuple(value.shape)} ".encode()
        + value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        for name, value in sorted(tensors.items())
        if not DURATION.search(name)
    )


def _timeless(node: Any) -> Any:
    if isinstance(node, dict):
        rest = {k: _timeless(v) for k, v in node.items() if not DURATION.search(k)}
        # of tensors among which are durations
        return {k: v for k, v in rest.items() if k != "sha256"}
    return [_timeless(item) for item in node] if isinstance(node, list) else node


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _compare(found: dict[str, str], wanted: dict[str, str]) -> tuple[str, str] | None:
    if orphans := sorted(set(found) - set(wanted)):
        return UNCLEAR, f"left behind: {', '.join(orphans[:4])}"
    if missing := sorted(set(wanted) - set(found)):
        return ACCEPTED, f"is done, but lacks {', '.join(missing[:4])}"
    if other := [name for name in wanted if found[name] != wanted[name]]:
        return ACCEPTED, f"ends with another {', '.join(other[:4])}"
    return None
