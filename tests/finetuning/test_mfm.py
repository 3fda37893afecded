"""Meta Flow Map fine-tuning: the mean of its target, and the tilt that it reaches."""

import math

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.finetuning import MFM
from alignflow.finetuning.pools.velocity_matching import PathBatch
from alignflow.reward_module import RewardError, reward
from alignflow.targets import GaussianMixture, Quadratic

FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}


@pytest.mark.parametrize("value", ["gradient", "gradient_free"])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9, 0.995])
def test_the_mean_of_the_target_is_the_tilted_velocity_at_the_tilted_velocity(
    t, value, generator, bind
):
    """At one state of a mixture whose modes overlap, with exact draws: 20,000 of them, five
    standard errors."""
    n, strength = 20_000, 0.8
    target = GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-0.7], [0.6]], dtype=torch.float64),
        torch.tensor([0.3, 0.5], dtype=torch.float64).reshape(2, 1, 1),
        tolerance=1e-6,
    )
    bowl = Quadratic(torch.tensor([0.5], dtype=torch.float64), 1.0)
    loss = bind(MFM, target, bowl, strength, value=value, pool=256, generator=generator)
    x, time = torch.full((n, 1), 0.3, dtype=torch.float64), torch.full((n,), t).double()
    exact = target.tilted_velocity(x, time, bowl, strength)
    at = PathBatch(x, time, torch.zeros_like(x), target.velocity(x, time), exact, None)
    found = loss.target(TensorDict({}, n), at)
    error = 5 * found.std().item() / math.sqrt(n) + 1e-6
    assert abs((found - exact).mean().item()) < error


def test_a_normal_reaches_its_tilt_by_draws_of_glass(normal, first, generator):
    tuned = af.finetune(
        normal, first, "mfm", 0.7, steps=600, pool=4096, inner_steps=4, generator=generator, **FAST
    )
    for steps in (1, 4, 16):
        drawn = tuned.sample(20_000, steps, generator=generator)
        # the tilt is N(0.7, 1); what remains is the training's own error
        assert drawn.mean().item() == pytest.approx(0.7, abs=0.1)
        assert drawn.std().item() == pytest.approx(1, abs=0.1)


def test_a_normal_reaches_its_tilt_under_a_black_box(normal, generator):
    tuned = af.finetune(
        normal, lambda x: x[:, 0].numpy(), "mfm", 0.7, steps=600, value="gradient_free",
        pool=4096, inner_steps=4, generator=generator, **FAST,
    )  # fmt: skip
    drawn = tuned.sample(20_000, 4, generator=generator)
    assert drawn.mean().item() == pytest.approx(0.7, abs=0.1)
    assert drawn.std().item() == pytest.approx(1, abs=0.1)


def test_a_shift_of_the_reward_changes_nothing(normal, generator, bind):
    found = []
    for shift in (0.0, 50.0):
        moved = reward(differentiable=True)(lambda x, shift=shift: x[:, 0] + shift)
        loss = bind(MFM, normal, moved, 1.0, pool=512, generator=generator.manual_seed(0))
        found.append(loss(loss.sample_batch(64))["loss_diagonal"])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


def test_what_cannot_be_is_refused(normal, first, bind):
    constant = reward(differentiable=True, name="one")(lambda x: torch.ones(len(x)))
    with pytest.raises(RewardError, match="'one' says differentiable, but no gradient reaches"):
        af.finetune(normal, constant, "mfm", steps=1, batch_size=4, pool=16)
    with pytest.raises(
        ValueError, match="mfm with value=gradient follows .* 'mean' is a black box"
    ):
        bind(MFM, normal, reward(name="mean")(lambda x: x.mean(1)), 1.0)
    with pytest.raises(ValueError, match="value must be one of gradient, gradient_free, got 'x'"):
        bind(MFM, normal, first, 1.0, value="x")
    with pytest.raises(ValueError, match=r"t_min must be a fraction in \(0, 1\), got 0"):
        bind(MFM, normal, first, 1.0, t_min=0)
    with pytest.raises(ValueError, match="inner_steps must be a whole number of at least 1, got 0"):
        bind(MFM, normal, first, 1.0, inner_steps=0)
