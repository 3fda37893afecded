"""Adjoint matching: its target in closed form, its optimum, its gradient beside backprop's."""

import pytest
import torch

import alignflow as af
from alignflow.finetuning import AdjointMatching, Direct, MemorylessRollout
from alignflow.reward_module import RewardError, reward

FAST = {"batch_size": 64, "learning_rate": 1e-2, "ema_decay": 0.98}


@pytest.mark.parametrize("jumps", [1, 3, 8])
def test_at_the_tilted_velocity_of_a_normal_the_loss_is_zero(jumps, normal, first, generator, bind):
    """Reward x, N(0, 1): the adjoint knows no chance, and b + strength (1-t) / v is the target
    itself, at any number of jumps."""
    strength = 0.7

    class Tilted(type(normal)):
        def velocity(self, x, t, condition=None):
            shift = (1 - t) / (t**2 + (1 - t) ** 2)
            return super().velocity(x, t) + strength * shift.reshape(-1, 1)

    exact = Tilted(normal.module, (1,))
    loss = bind(
        AdjointMatching,
        exact,
        first,
        strength,
        base=normal,
        rollout=MemorylessRollout(jumps),
        generator=generator,
    )
    assert loss(loss.sample_batch(50))["loss_adjoint"].item() < 1e-10


def test_at_the_base_its_gradient_is_that_of_backprop_with_the_path_kl(normal, generator, bind):
    """Where both models agree the KL has no gradient yet, and the lean adjoint is the whole one.
    The same paths, a reward that is not linear."""
    bowl = reward(differentiable=True)(lambda x: -(x[:, 0] - 1).square())
    gradients = []
    for tuner in (AdjointMatching, Direct):
        policy = type(normal)(normal.module, (1,))
        policy.zero_grad()
        seeded = torch.Generator().manual_seed(3)
        loss = bind(tuner, policy, bowl, 0.5, rollout=MemorylessRollout(4), generator=seeded)
        losses = loss(loss.sample_batch(64))
        names = {"loss_adjoint"} if tuner is AdjointMatching else {"loss_reward"}
        sum(losses[name] for name in names).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
        policy.zero_grad()
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def tuned(normal, first):
    """N(0, 1) tuned to the reward x."""
    rollout, seeded = MemorylessRollout(6), torch.Generator().manual_seed(0)
    return af.finetune(
        normal, first, "adjoint_matching", 1.0, steps=300, generator=seeded, rollout=rollout, **FAST
    )


@pytest.mark.parametrize("steps", [1, 4, 32])
def test_a_normal_reaches_its_tilt_at_any_number_of_steps(steps, tuned):
    drawn = tuned.sample(20_000, steps, generator=torch.Generator().manual_seed(1))
    # the tilt is N(1, 1); what remains is the training's own error
    assert drawn.mean().item() == pytest.approx(1, abs=0.08)
    assert drawn.std().item() == pytest.approx(1, abs=0.08)


def test_a_reward_without_a_graph_is_refused(normal):
    constant = reward(differentiable=True, name="one")(lambda x: torch.ones(len(x)))
    with pytest.raises(RewardError, match="'one' says differentiable, but its answer carries no"):
        af.finetune(normal, constant, "adjoint_matching", steps=1, batch_size=4)


def test_data_for_a_rollout_from_noise_is_refused(normal, first, bind):
    rollout = MemorylessRollout(2, start="noise")
    with pytest.raises(ValueError, match="data would do nothing"):
        bind(AdjointMatching, normal, first, 1.0, rollout=rollout, data=torch.ones(3, 1))
