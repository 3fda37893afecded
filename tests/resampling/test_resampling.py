"""Particles: effective sample size, unbiased resampling, and which particles go on."""

import math

import pytest
import torch
from tensordict import TensorDict

from alignflow.resampling import (
    SCHEMES,
    AdaptiveResampling,
    BestOfN,
    Importance,
    Potential,
    Search,
    Single,
    Work,
    effective_sample_size,
    normalize_weights,
    systematic,
)
from alignflow.resampling.schemes import uniforms
from alignflow.tilt import Tilt

INF = math.inf


def of_strength(strength: float) -> Tilt:
    return Tilt(lambda x: x, strength)


def test_the_effective_sample_size_of_equal_weights_is_their_number():
    torch.testing.assert_close(
        effective_sample_size(torch.full((3, 7), -800.0)), torch.full((3,), 7.0)
    )


def test_the_effective_sample_size_of_known_weights():
    log_weight = torch.tensor([[3.0, 1.0, -INF], [1.0, 0.0, 0.0]], dtype=torch.float64)
    log_weight[0, :2] = log_weight[0, :2].log()
    log_weight[1, 1:] = -INF
    expected = torch.tensor([16 / 10, 1.0], dtype=torch.float64)
    torch.testing.assert_close(effective_sample_size(log_weight), expected)


def test_weights_do_not_depend_on_a_constant_and_do_not_overflow(generator):
    log_weight = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    for shift in (-1e4, 1e4):
        torch.testing.assert_close(
            normalize_weights(log_weight + shift), normalize_weights(log_weight), rtol=1e-9, atol=0
        )


@pytest.mark.parametrize("function", [normalize_weights, effective_sample_size, systematic])
def test_a_system_that_lost_all_its_particles_is_named(function):
    log_weight = torch.tensor([[0.0, -INF], [-INF, -INF]])
    with pytest.raises(ValueError, match="all 2 particles of system 1 have a log-weight of -inf"):
        function(log_weight)


@pytest.mark.parametrize("bad", [math.nan, INF])
def test_log_weights_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or"):
        effective_sample_size(torch.tensor([[0.0, bad]]))


def test_systematic_resampling_is_unbiased(generator):
    """n = 20,000 systems; a copy number differs from its mean by less than one, so its standard
    deviation is at most 1/2."""
    n, log_weight = 20_000, torch.randn(7, generator=generator).double()
    chosen = systematic(log_weight.expand(n, 7), generator=generator)
    copies = torch.nn.functional.one_hot(chosen, 7).sum(1).double()
    error = 5 * 0.5 / math.sqrt(n)
    assert ((copies.mean(0) - 7 * log_weight.softmax(0)).abs() < error).all()


def test_systematic_resampling_copies_each_particle_floor_or_ceil_of_its_mean(generator):
    log_weight = 2 * torch.randn(500, 63, generator=generator)
    mean = 63 * log_weight.double().softmax(-1)
    copies = torch.nn.functional.one_hot(systematic(log_weight, generator=generator), 63).sum(1)
    assert (copies >= mean.floor() - 1e-9).all() and (copies <= mean.ceil() + 1e-9).all()


def test_one_systematic_draw_is_categorical(generator):
    """n = 40,000 draws, five standard errors."""
    n, weight = 40_000, torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    drawn = systematic(weight.log().expand(n, 4), 1, generator)
    assert drawn.shape == (n, 1)
    fraction = torch.bincount(drawn.flatten(), minlength=4) / n
    assert ((fraction - weight).abs() <= 5 * (weight * (1 - weight) / n).sqrt()).all()


def test_a_particle_without_weight_is_never_chosen(generator):
    log_weight = torch.randn(2_000, 5, generator=generator) * 30
    log_weight[:, [0, 4]] = -INF
    chosen = systematic(log_weight, 11, generator)
    assert chosen.min() >= 1 and chosen.max() <= 3


def finished(reward: torch.Tensor) -> TensorDict:
    return TensorDict({"reward": reward.flatten()}, batch_size=[reward.numel()])


def test_best_of_n_keeps_the_best_and_all_weights():
    reward = torch.tensor([[1.0, 3.0, 2.0], [5.0, -INF, 4.0]])
    node = BestOfN(of_strength(2.0))
    log_weight = node.finish(finished(reward))["log_weight"].reshape(2, 3)
    assert torch.equal(log_weight, 2 * reward)
    assert node.choose(reward, log_weight).tolist() == [1, 0]


def test_importance_draws_by_the_weights(generator):
    """n = 20,000 systems of the same three particles, five standard errors."""
    n, reward = 20_000, torch.tensor([0.0, 1.0, -INF])
    node = Importance(of_strength(2.0))
    rewards = reward.expand(n, 3)
    log_weight = node.finish(finished(rewards))["log_weight"].reshape(n, 3)
    chosen = node.choose(rewards, log_weight, generator)
    p = 1 / (1 + math.exp(-2.0))
    assert (chosen == 2).sum() == 0
    assert abs((chosen == 1).double().mean() - p) < 5 * math.sqrt(p * (1 - p) / n)


def test_a_single_particle_weighs_one_unless_it_was_dropped():
    log_weight = Single().finish(finished(torch.tensor([[2.0], [-INF]])))["log_weight"]
    assert log_weight.tolist() == [0.0, -INF]
    with pytest.raises(ValueError, match="one particle a system, got 2"):
        Single().choose(torch.zeros(3, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(
    "node", [BestOfN(of_strength(1.0)), Importance(of_strength(1.0))], ids=repr
)
def test_nothing_is_chosen_where_every_particle_was_dropped(node):
    dropped = torch.full((2, 3), -INF)
    with pytest.raises(ValueError, match="all 3 particles of system 0, 1"):
        node.choose(dropped, dropped)


@pytest.mark.parametrize("scheme", ["systematic", "residual", "ssp", "multinomial"])
def test_every_scheme_keeps_each_particle_by_its_weight_on_average(generator, scheme):
    """40,000 systems of 7 particles: copies of i have mean 7 w_i, within five standard errors."""
    log_weight = torch.tensor([0.0, 1.0, -2.0, 0.5, -INF, 0.7, 0.1], dtype=torch.float64)
    systems, m = 40_000, len(log_weight)
    uniform = uniforms((systems, m), generator, log_weight.device)
    chosen = SCHEMES[scheme](normalize_weights(log_weight.expand(systems, m)), uniform)
    assert chosen.shape == (systems, m)
    copies = torch.nn.functional.one_hot(chosen, m).double().sum(1)
    error = copies.std(0) / math.sqrt(systems)
    expected = m * log_weight.softmax(0)
    assert ((copies.mean(0) - expected).abs() <= 5 * error + 1e-9).all()
    if scheme != "multinomial":
        assert (copies >= expected.floor() - 1e-9).all()
    if scheme in ("systematic", "ssp"):
        assert ((copies - expected).abs() < 1 + 1e-9).all()


def weighed(values, node, **more) -> TensorDict:
    rows = len(values)
    tensordict = TensorDict({"value": values, **more}, batch_size=[rows])
    tensordict["state"] = torch.arange(rows, dtype=torch.float64)[:, None]
    tensordict.setdefault("time", torch.full((rows,), 0.5, dtype=torch.float64))
    node.draw(tensordict, torch.Generator().manual_seed(0))
    return node(tensordict)


@pytest.mark.parametrize("kind", ["diff", "max", "add"])
def test_potentials_telescope_to_the_final_reward(generator, kind):
    values = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    node = AdaptiveResampling(of_strength(2.0), 3, Potential(kind), threshold=0.0)
    tensordict = weighed(values[0], node)
    for value in values[1:]:
        tensordict = weighed(value, node, **tensordict.select(*node.carries, strict=False))
    tensordict["reward"] = values[0]
    torch.testing.assert_close(node.finish(tensordict)["log_weight"], 2 * values[0])


def test_work_is_the_integral_of_the_value(generator):
    """Of a value that is linear in time the trapezoid is exact: int_0^1 (1 + 2t) dt = 2."""
    node = AdaptiveResampling(of_strength(1.0), 2, Work(), threshold=0.0)
    carried: dict = {}
    for t in (0.0, 0.3, 0.7):
        time = torch.full((2,), t, dtype=torch.float64)
        tensordict = weighed(1 + 2 * time, node, time=time, **carried)
        carried = dict(tensordict.select(*node.carries, strict=False).items())
    tensordict["time"] = torch.ones(2, dtype=torch.float64)
    tensordict["reward"] = torch.full((2,), 3.0, dtype=torch.float64)
    torch.testing.assert_close(
        node.finish(tensordict)["log_weight"], torch.full((2,), 2.0).double()
    )


def test_only_systems_with_few_particles_left_are_resampled_and_keep_their_mean_weight():
    values = torch.tensor([0.0, 0.0, 0.0, 9.0, 0.0, -9.0], dtype=torch.float64)
    tensordict = weighed(values, AdaptiveResampling(of_strength(1.0), 3, threshold=0.5))
    assert tensordict["state"][:3, 0].tolist() == [0, 1, 2]
    assert tensordict["state"][3:, 0].tolist() == [3, 3, 3]
    mean = values[3:].logsumexp(0) - math.log(3)
    torch.testing.assert_close(tensordict["log_weight"][3:], mean.expand(3))
    torch.testing.assert_close(tensordict["log_weight"][:3], values[:3])


def test_a_particle_that_was_dropped_stays_dropped():
    node = AdaptiveResampling(of_strength(1.0), 2, threshold=0.0)
    first = weighed(torch.tensor([-INF, 0.0], dtype=torch.float64), node)
    carried = first.select(*node.carries, strict=False)
    second = weighed(torch.tensor([5.0, 1.0], dtype=torch.float64), node, **carried)
    assert second["log_weight"].tolist() == [-INF, 1.0]


@pytest.mark.parametrize(
    ("scope", "chosen"), [("system", [4, 4, 7, 7]), ("particle", [1, 4, 7, 9])]
)
def test_search_keeps_the_best_draw_of_a_system_or_of_each_particle(scope, chosen):
    endpoint = torch.arange(12.0).reshape(4, 3, 1)
    reward = torch.tensor([[0.0, 2, 1], [1, 3, 0], [0, 9, 8], [5, 4, 3]])
    tensordict = TensorDict({"endpoint": endpoint, "endpoint_reward": reward}, batch_size=[4])
    found = Search(2, scope)(tensordict)["endpoint"]
    assert found.shape == (4, 1, 1) and found.flatten().tolist() == chosen


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: AdaptiveResampling(of_strength(1.0), 2, scheme="lottery"),
            "scheme must be one of systematic",
        ),
        (
            lambda: AdaptiveResampling(of_strength(1.0), 2, threshold=1.5),
            "threshold must be a fraction",
        ),
        (lambda: Potential("sum"), "potential must be one of diff, max, add"),
        (lambda: Search(2, "world"), "scope must be one of system, particle"),
    ],
)
def test_unknown_names_and_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
