"""Rewards whose value is finite and whose gradient is not: no step is taken on them."""

import pytest
import torch

import alignflow as af
from alignflow.checkpoint import load_folder
from alignflow.finetuning import MemorylessRollout
from alignflow.policies import MLP, FlowMapPolicy

GOOD = 3  # steps before the fault


class Faulty:
    """The mean of a sample for some calls, and then what it is given."""

    def __init__(self, fault, calls=GOOD):
        self.fault, self.calls = fault, calls

    def __call__(self, x):
        self.calls -= 1
        return x.mean(1) if self.calls >= 0 else self.fault(x)


def spread(x):
    """Standard deviation of a flat sample: 0, with the slope of a root there."""
    return x.mean(1, keepdim=True).expand_as(x).var(1, correction=0).sqrt()


def huge(x):
    return 1e25 * x.mean(1)


def policy():
    torch.manual_seed(0)
    return FlowMapPolicy(MLP(4, width=8, depth=2), (4,))


@pytest.mark.parametrize(
    ("method", "fault", "message"),
    [
        ("direct", spread, "gradient is not finite at step 3: loss_reward=nan, where the loss is"),
        ("direct", huge, "gradient is not finite at step 3: loss_reward=inf, where the loss is"),
        ("adjoint_matching", spread, "the loss is not finite at step 3: loss_adjoint=nan"),
        ("adjoint_matching", huge, "the loss is not finite at step 3: loss_adjoint=inf"),
    ],
)
def test_a_gradient_of_the_reward_that_is_not_finite_leaves_the_weights(
    method, fault, message, tmp_path
):
    options = {"rollout": MemorylessRollout(2), "steps": 6, "batch_size": 8, "generator": 0}
    reward = af.reward(differentiable=True, name="faulty")(Faulty(fault))
    with pytest.raises(FloatingPointError, match=message):
        af.finetune(policy(), reward, method, folder=tmp_path, **options)
    kept, facts = load_folder(tmp_path / "checkpoint")
    assert facts["step"] == GOOD
    assert all(x.isfinite().all() for x in kept.values())
    # with the reward mended the run ends where it would have
    mended = af.reward(differentiable=True, name="faulty")(Faulty(None, 1000))
    tuned = af.finetune(policy(), mended, method, folder=tmp_path, **options)
    whole = af.finetune(policy(), mended, method, **options)
    pairs = zip(tuned.parameters(), whole.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
