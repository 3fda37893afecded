"""Tilt matching: fixed points in closed form, the order of ETM, the variance of the family."""

import math

import pytest
import torch

import alignflow as af
from alignflow.finetuning import ETM, ITM, AdaptiveStages, TiltMatching
from alignflow.finetuning.runs.annealing import largest_strength
from alignflow.reward_module import reward
from alignflow.tilt import Tilt

FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}
FAMILY = pytest.mark.parametrize("tuner", [ETM, ITM, TiltMatching])


def conditional(x, t, strength, n, generator):
    """n endpoints and directions at one state x of the path to N(strength, 1), at time t."""
    # x1 given x_t = x is N(t x / v + strength (1-t)^2 / v, (1-t)^2 / v), v = t^2 + (1-t)^2
    v = t**2 + (1 - t) ** 2
    spread = (1 - t) / v**0.5
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x1 = t * x / v + strength * spread**2 + spread * noise
    return x1, (x1 - x) / (1 - t)


@FAMILY
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_the_mean_of_the_target_is_the_tilted_velocity_at_the_tilted_velocity(
    tuner, t, normal, first, generator, bind
):
    """Reward x, N(0, 1), strength 0.5: b* = b + 0.5 (1-t) / v at every x. For ETM, which is of
    first order, too: the gain of a linear reward of a normal has no higher order. 200,000 draws,
    five standard errors."""
    n, strength, x = 200_000, 0.5, 0.4
    loss = bind(tuner, normal, first, strength, pool=16, generator=generator)
    loss.pool.refresh()
    # rows of the base for ETM, of the tilt for the others
    x1, direction = conditional(x, t, 0 if tuner is ETM else strength, n, generator)
    v = t**2 + (1 - t) ** 2
    base = torch.full((n, 1), (2 * t - 1) / v * x, dtype=torch.float64)
    exact = base + strength * (1 - t) / v
    gain = strength * x1
    worth = gain if tuner is ETM else (gain - strength**2 / 2).exp()
    target = loss.blend(direction, base, exact, worth)
    assert not torch.equal(target, direction)  # a share of the base's velocity was taken
    error = 5 * target.std().item() / math.sqrt(n)
    assert abs(target.mean().item() - exact[0].item()) < error


def test_the_estimated_control_variate_has_the_least_variance_of_the_family(
    normal, first, generator, bind
):
    """At a weak and a strong tilt, over states: never more than that of either end."""
    for strength in (0.1, 1.5):
        loss = bind(TiltMatching, normal, first, strength, pool=16, memory=0.0, generator=generator)
        loss.pool.refresh()
        x0, noise = torch.randn(2, 50_000, 1, generator=generator, dtype=torch.float64)
        x1 = strength + noise
        t = torch.rand(50_000, 1, generator=generator, dtype=torch.float64)
        v = t**2 + (1 - t) ** 2
        x, direction = (1 - t) * x0 + t * x1, x1 - x0
        base = (2 * t - 1) / v * x
        own, weight = base + strength * (1 - t) / v, (strength * x1 - strength**2 / 2).exp()
        best = loss.blend(direction, base, own, weight)
        ends = {c: direction - c * (direction - base) / weight for c in (0, 1)}
        spread = (best - own).square().mean()
        assert all(spread <= (end - own).square().mean() for end in ends.values())
        assert 0 < loss.control.coefficient < 1
        if strength == 0.1:
            assert spread < (ends[0] - own).square().mean() / 50


EMPTIED = pytest.mark.parametrize("tuner", [ITM, TiltMatching])


@EMPTIED
def test_where_some_of_the_base_weighs_nothing_the_target_is_data_whatever_the_model_says(
    tuner, normal, generator, bind
):
    """Half of the base has a weight of e^-40: weighted flow matching is all that holds there."""
    cut = reward(name="cut")(lambda x: -40.0 * (x[:, 0] < 0))
    loss = bind(tuner, normal, cut, 1.0, pool=256, generator=generator)
    rows = loss.sample_batch(64)
    assert (rows["data"] > 0).all()
    direction, base, own = torch.randn(3, 64, 1, generator=generator)
    target = loss.blend(direction, base, own, rows["weight"].unsqueeze(1))
    torch.testing.assert_close(target, direction)


@EMPTIED
def test_the_base_enters_the_target_no_more_than_four_times(tuner, normal, first, generator, bind):
    """However the model errs, which would be divided by the mean weight at a state."""
    loss = bind(tuner, normal, first, 3.0, pool=256, generator=generator)
    worth = loss.sample_batch(64)["weight"].unsqueeze(1)
    direction, base = torch.zeros(64, 1), torch.ones(64, 1)
    target = loss.blend(direction, base, torch.full((64, 1), 1e6), worth)
    assert (target.abs() <= 4).all() and (target > 0).any()


def test_at_a_constant_reward_the_target_of_itm_is_the_base_whatever_is_drawn(
    normal, generator, bind
):
    loss = bind(ITM, normal, lambda x: 3.0 * torch.ones(len(x)), 2.0, pool=16, generator=generator)
    direction, base, own = torch.randn(3, 8, 1, generator=generator)
    worth = loss.sample_batch(8)["weight"].unsqueeze(1)
    torch.testing.assert_close(loss.blend(direction, base, own, worth), base)


@pytest.mark.parametrize("method", ["itm", "tilt"])
def test_a_black_box_tilt_is_reached_at_any_number_of_steps(method, normal, generator):
    tuned = af.finetune(
        normal, lambda x: x[:, 0].numpy(), method, 1.0, steps=600, pool=16_384,
        refresh_every=100, generator=generator, **FAST,
    )  # fmt: skip
    for steps in (1, 4, 16):
        drawn = tuned.sample(20_000, steps, generator=generator)
        # the tilt is N(1, 1); what remains is the training's own error
        assert drawn.mean().item() == pytest.approx(1, abs=0.1)
        assert drawn.std().item() == pytest.approx(1, abs=0.1)


def test_the_error_of_etm_falls_with_its_levels(normal, generator):
    """Reward -x^2, strength 1: the tilt is N(0, 1/3). One Euler step is far off, eight are near."""
    bowl = reward(name="bowl")(lambda x: -x[:, 0].square())
    errors = []
    for levels in (1, 8):
        tuned = af.finetune(
            normal, bowl, "etm", 1.0, steps=640, annealing_stages=levels, pool=8192,
            refresh_every=40, generator=generator, **FAST,
        )  # fmt: skip
        drawn = tuned.sample(20_000, 16, generator=generator)
        errors.append(abs(drawn.std().item() - 3**-0.5))
    assert errors[1] < 0.05 < errors[0]


def test_the_largest_strength_leaves_the_fraction_that_was_asked_for(first, generator):
    """Normal rewards: the share under weights e^{h r} is e^{-h^2}. 100,000 rewards."""
    rewards = torch.randn(100_000, generator=generator)
    groups = torch.zeros(100_000, dtype=torch.int64)
    found = largest_strength(Tilt(first, 10.0), rewards, groups, 0.5)
    assert found == pytest.approx(math.log(2) ** 0.5, abs=0.02)
    assert largest_strength(Tilt(first, 0.1), rewards, groups, 0.5) == 0.1


def test_adaptive_levels_reach_the_whole_strength_and_no_more(normal, first, tmp_path, generator):
    af.finetune(
        normal, first, "itm", 2.0, steps=40, batch_size=16, pool=256, generator=generator,
        annealing_stages=AdaptiveStages(0.5, candidates=4096), folder=tmp_path,
        checkpoint_every=100,
    )  # fmt: skip
    # of N(m, 1) every step is sqrt(log 2) = 0.83: two of them and a rest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["level_1", "level_2", "level_3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annealing_stages": 0}, "annealing_stages must be a whole number of at least 1, got 0"),
        ({"diagonal_fraction": 1.0}, r"diagonal_fraction must lie in \(0, 1\), got 1.0"),
        ({"memory": 1.0}, r"memory must be a fraction in \[0, 1\), got 1.0"),
        ({"regularizer": None}, "tilt has no option regularizer; its own are .*memory.*pool"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message, normal, first):
    with pytest.raises(ValueError, match=message):
        af.finetune(normal, first, "tilt", steps=4, batch_size=4, **options)
