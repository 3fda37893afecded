"""A tuning killed again and again at random moments ends at the weights of one that was not."""

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
KILLS = 25
CHILD = """
    import sys
    import torch
    import alignflow as af
    from alignflow.policies import MLP, FlowMapPolicy
    from alignflow.targets import ring_reward

    torch.set_num_threads(1)
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(2, width=32, depth=2), (2,))
    print("begins", flush=True)
    tuned = af.finetune(
        policy, ring_reward(), "tilt", 0.5, steps=8000, batch_size=64, levels=2, recentering=300,
        generator=torch.Generator().manual_seed(1), folder=sys.argv[1], checkpoint_every=20,
        pool=256, held_out={"same": ring_reward()}, early_stop=20.0,
    )
    tuned.save(sys.argv[1] + "/tuned")
"""


def child(folder):
    code = textwrap.dedent(CHILD)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_25_kills_at_random_moments_change_no_bit(tmp_path):
    moments, kills = random.Random(0), 0
    while kills < KILLS:
        process = child(tmp_path / "killed")
        assert process.stdout is not None and process.stdout.readline() == "begins\n"
        time.sleep(moments.uniform(0.05, 1.5))
        assert process.poll() is None, "it ended before it could be killed as often as it should"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kills += 1
    assert child(tmp_path / "killed").wait() == 0
    assert child(tmp_path / "whole").wait() == 0
    killed, whole = (
        af.load(tmp_path / name / "tuned").state_dict() for name in ("killed", "whole")
    )
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
