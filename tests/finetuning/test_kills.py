"""A tuning killed again and again at random moments ends at the weights of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

import alignflow as af

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CHILD = """
    import signal, sys
    import torch
    import alignflow as af
    from alignflow.policies import MLP, FlowMapPolicy
    from alignflow.targets import ring_reward

    # what runs in the background is started deaf to Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, steps = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(2, width=32, depth=2), (2,))
    print("begins", flush=True)
    tuned = af.finetune(
        policy, ring_reward(), "tilt", 0.5, steps=steps, batch_size=64, annealing_stages=2,
        recentering=40, generator=torch.Generator().manual_seed(1), folder=folder,
        checkpoint_every=20, pool=256, held_out={"same": ring_reward()}, early_stop=20.0,
        progress=lambda step, steps, metrics: print(step, flush=True),
    )
    tuned.save(folder + "/tuned")
"""


def child(folder, steps):
    code = textwrap.dedent(CHILD)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(steps)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def kill(folder, steps, number, after, moments):
    """Start a run, and end it by a signal within a moment after so many of its steps."""
    process = child(folder, steps)
    assert process.stdout is not None and process.stdout.readline() == "begins\n"
    for _ in range(after):
        assert process.stdout.readline(), "it ended before it could be killed"
    time.sleep(moments.uniform(0.0, 0.02))
    os.kill(process.pid, number)
    process.communicate()
    assert process.returncode != 0
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL


def lines(folder):
    """Of metrics of all levels, without times."""
    found = {}
    for file in sorted(folder.rglob("metrics.jsonl")):
        parsed = [json.loads(line) for line in file.read_text().splitlines()]
        found[str(file.relative_to(folder))] = [
            {k: v for k, v in line.items() if k != "seconds_per_step"} for line in parsed
        ]
    return found


def check_the_same(folder, steps):
    for name in ("killed", "whole"):
        process = child(folder / name, steps)
        process.communicate()
        assert process.returncode == 0
    killed, whole = (af.load(folder / name / "tuned").state_dict() for name in ("killed", "whole"))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    assert lines(folder / "killed") == lines(folder / "whole")


def test_a_kill_by_each_signal_changes_no_bit_and_no_line(tmp_path):
    moments = random.Random(1)
    for number in SIGNALS:
        kill(tmp_path / "killed", 300, number, moments.randint(25, 60), moments)
    check_the_same(tmp_path, 300)


@pytest.mark.slow
def test_25_kills_at_random_moments_change_no_bit(tmp_path):
    moments = random.Random(0)
    for _ in range(25):
        number, after = moments.choice(SIGNALS), moments.randint(0, 200)
        kill(tmp_path / "killed", 4000, number, after, moments)
    check_the_same(tmp_path, 4000)
