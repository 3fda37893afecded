"""What a training keeps when a step of it raises, and what it tells."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from alignflow.checkpoint import load_folder
from alignflow.training import Trainer


class Fit(nn.Module):
    """Least squares of a linear map to noise; raises at one of its calls."""

    def __init__(self, fail_at=None, dtype=torch.float64):
        super().__init__()
        self.linear = nn.Linear(3, 1, dtype=dtype)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.calls, self.fail_at = 0, fail_at

    def forward(self, batch):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("the reward is away")
        return TensorDict(
            {"loss": (self.linear(batch["x"].to(self.linear.weight)) - 1).square().mean()}
        )


def draw(generator):
    x = torch.randn((4, 3), generator=generator, dtype=torch.float64)
    return TensorDict({"x": x}, batch_size=4)


def trainer(loss, **options):
    return Trainer(loss, loss.linear, draw, steps=12, **options)


def test_a_step_that_raises_leaves_a_checkpoint_from_which_the_run_ends_the_same(tmp_path):
    with pytest.raises(RuntimeError, match="away"):
        trainer(Fit(fail_at=8), folder=tmp_path, checkpoint_every=5).run()
    _, facts = load_folder(tmp_path / "checkpoint")
    assert facts["step"] == 7
    resumed = trainer(Fit(), folder=tmp_path, checkpoint_every=5).run()
    unbroken = trainer(Fit()).run()
    for ours, theirs in zip(resumed.parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_progress_is_told_after_each_step_with_the_newest_metrics():
    told = []
    trainer(Fit(), log_every=5, progress=lambda *told_of: told.append(told_of)).run()
    assert [step for step, _, _ in told] == list(range(1, 13))
    assert all(steps == 12 for _, steps, _ in told)
    assert [bool(metrics) for _, _, metrics in told] == [False] * 4 + [True] * 8


def test_an_autocast_around_the_run_keeps_no_old_weights():
    """It keeps casts of the weights for as long as it lasts."""

    def trained():
        return trainer(Fit(dtype=torch.float32), learning_rate=0.1, precision="bf16").run()

    alone = trained()
    with torch.autocast("cpu", torch.bfloat16):
        within = trained()
    assert torch.equal(alone.weight, within.weight)
