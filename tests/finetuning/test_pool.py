"""The pool: its weights, what it draws by them, and what it says when they are bad."""

import warnings

import pytest
import torch

from alignflow.finetuning.pools.pool import Pool
from alignflow.metrics.groups import ess_fraction, normalize_by_group
from alignflow.reward_module import Reward
from alignflow.targets import GaussianMixture
from alignflow.tilt import Tilt


@pytest.fixture
def standard():
    return GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1))


def pool(model, function, strength=1.0, size=4096, condition=None, **options):
    options = {"refresh_every": 10, "steps": 1, **options}
    generator = torch.Generator().manual_seed(0)
    tilt = Tilt(function, strength)
    return Pool(model, tilt, size, generator=generator, condition=condition, **options)


def test_weights_add_up_to_one_in_each_group():
    log_weight = torch.tensor([1.0, 2.0, 3.0, 700.0, 701.0]).double()
    groups = torch.tensor([0, 1, 0, 1, 1])
    weight = normalize_by_group(log_weight, groups).exp()
    torch.testing.assert_close(weight[groups == 0], log_weight[[0, 2]].softmax(0))
    torch.testing.assert_close(weight[groups == 1], log_weight[[1, 3, 4]].softmax(0))


def test_the_ess_fraction_is_that_of_the_worst_group():
    groups = torch.tensor([0, 0, 1, 1, 1, 1])
    log_weight = normalize_by_group(torch.tensor([5.0, 5.0, 0.0, 0.0, -1e3, -1e3]).double(), groups)
    assert ess_fraction(log_weight, groups).item() == pytest.approx(0.5)


def test_rows_are_drawn_by_the_weights_of_the_tilt(standard):
    drawn = pool(standard, lambda x: x[:, 0], strength=0.7, size=20_000).resample(20_000)["data"]
    # the tilt of N(0, 1) is N(0.7, 1); pool and draw each add their own error, the pool's larger by
    # the effective share e^{-0.49}: n = 20,000, 5 standard errors
    error = 5 * ((1.63 + 1) / 20_000) ** 0.5
    assert drawn.mean().item() == pytest.approx(0.7, abs=error)


def test_the_last_rows_of_a_draw_are_by_the_weights(standard):
    drawn = pool(standard, lambda x: x[:, 0], strength=0.7, size=20_000).draw(40_000, 20_000)
    even, weighed = drawn["data"].split(20_000)
    assert even.mean().item() == pytest.approx(0, abs=5 * (2 / 20_000) ** 0.5)
    # as above
    assert weighed.mean().item() == pytest.approx(0.7, abs=5 * ((1.63 + 1) / 20_000) ** 0.5)


def test_a_shift_of_the_reward_changes_nothing(standard):
    plain = pool(standard, lambda x: x[:, 0]).resample(64)["data"]
    shifted = pool(standard, lambda x: x[:, 0] + 64.0).resample(64)["data"]
    torch.testing.assert_close(plain, shifted)


def test_a_reward_that_overflows_the_exponential_is_weighed_all_the_same(standard):
    with pytest.warns(UserWarning, match="0.02% of 4096 candidates are effective"):
        drawn = pool(standard, lambda x: x[:, 0] * 1e30, strength=1e8).resample(8)
    best = drawn["data"].max()
    assert (drawn["data"] == best).all()


def test_a_constant_reward_keeps_every_candidate_in_full(standard):
    held = pool(standard, lambda x: torch.full((len(x),), 1e6), strength=1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held.resample(4)
    assert held.ess_fraction.item() == pytest.approx(1)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_dropped_candidate_is_never_drawn(strength, standard):
    half = Reward(
        lambda x: torch.where(x[:, 0] > 0, x[:, 0], torch.nan), name="half", on_invalid="drop"
    )
    assert (pool(standard, half, strength).resample(1000)["data"] > 0).all()


def test_a_pool_without_a_candidate_left_is_refused(standard):
    none = Reward(lambda x: x[:, 0] * torch.nan, name="none", on_invalid="drop")
    with pytest.raises(ValueError, match="all candidates of a condition have weight 0"):
        pool(standard, none).resample(4)


class Shifted(GaussianMixture):
    """Class c is N(c, 1)."""

    def sample(self, n, steps=None, condition=None, guidance=1.0, generator=None, grid=None):
        return super().sample(n, generator=generator) + condition[:, None]


def test_each_condition_is_tilted_by_itself():
    model = Shifted(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1))
    held = pool(model, lambda x: x[:, 0], 0.7, 20_000, condition=torch.tensor([0, 10]))
    drawn = held.resample(20_000)
    for label in (0, 10):
        rows = drawn["data"][drawn["condition"] == label]
        # half of the rows: a binomial share, and the mean as in the test above
        assert len(rows) / 20_000 == pytest.approx(0.5, abs=5 * (0.25 / 20_000) ** 0.5)
        error = 5 * ((1.63 + 1) / 10_000) ** 0.5
        assert rows.mean().item() == pytest.approx(label + 0.7, abs=error)


def test_candidates_may_come_from_data_with_its_own_conditions(standard):
    data = [(torch.tensor([float(i)]), i % 2) for i in range(4)]
    held = pool(standard, lambda x: x[:, 0], 0.0, 64, data=data)
    drawn = held.resample(32)
    torch.testing.assert_close(drawn["data"][:, 0] % 2, drawn["condition"].float())


def test_conditions_that_occur_once_are_refused(standard):
    data = [(torch.zeros(1), i) for i in range(5000)]
    with pytest.raises(ValueError, match="each of the 4 candidates has a condition of its own"):
        pool(standard, lambda x: x[:, 0], size=4, data=data).resample(2)


def test_a_pool_is_scored_once_until_it_is_refreshed(standard):
    calls = []

    def counted(x):
        calls.append(len(x))
        return x[:, 0]

    held = pool(standard, counted, size=100, refresh_every=3)
    for _ in range(4):
        held.resample(5)
    assert calls == [100, 100]


def test_a_pool_goes_on_from_its_saved_state_without_scoring(standard):
    whole = pool(standard, lambda x: x[:, 0], size=100)
    whole.resample(5)
    resumed = pool(standard, lambda x: pytest.fail("scored again"), size=100)
    resumed.load_state_dict(whole.state_dict())
    resumed.generator.set_state(whole.generator.get_state())
    torch.testing.assert_close(resumed.resample(7)["data"], whole.resample(7)["data"])


def test_impossible_pools_are_refused(standard):
    with pytest.raises(ValueError, match="pool must be a whole number of at least 2, got 1"):
        pool(standard, lambda x: x[:, 0], size=1)
    with pytest.raises(
        ValueError, match="refresh_every must be a whole number of at least 1, got 0"
    ):
        pool(standard, lambda x: x[:, 0], refresh_every=0)
