"""A tuning that runs away is refused by name, and one that stays is left alone."""

from typing import Any

import pytest
import torch

import alignflow as af
from alignflow.finetuning import METHODS, VelocityMatching
from alignflow.finetuning.pools.tilt_matching import WeightedVelocityTuner
from alignflow.finetuning.runs.runaway import EVERY, Runaway, RunawayError
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.reward_module import reward
from alignflow.targets import GaussianMixture


class PublishedTuner(WeightedVelocityTuner):
    """Implicit tilt matching as it is published: rows of the base, and the model in the target."""

    def blend(self, direction, base, model, weight):
        return model + weight * (direction - model) - (direction - base)


class Published(VelocityMatching):
    """The settings of it."""

    def bind(self, problem):
        return PublishedTuner(problem, self)


@pytest.fixture(scope="module")
def base():
    """Two modes at -2 and 2, learned by a small network and not well."""
    means, covariances = torch.tensor([[-2.0], [2.0]]), 0.1 * torch.ones(2, 1, 1)
    mixture = GaussianMixture(torch.ones(2), means, covariances)
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=32, depth=2, scale=2.0), (1,))
    return af.pretrain(policy, mixture, steps=100, batch_size=256, learning_rate=3e-3)


cut = reward(name="cut")(lambda x: -40.0 * (x[:, 0] < 0))  # half of the base has a weight of e^-40
SHORT: dict[str, Any] = {"steps": 1000, "batch_size": 128, "pool": 1024, "learning_rate": 1e-2}


def test_where_half_of_the_base_weighs_nothing_the_published_target_runs_away(base, monkeypatch):
    monkeypatch.setitem(METHODS, "published", Published)
    with pytest.raises(
        RunawayError, match=r"published ran away: at step \d+ .*weighted.*annealing_stages="
    ):
        af.finetune(base, cut, "published", 1.0, **SHORT)


@pytest.mark.parametrize("method", ["weighted", "tilt", "itm"])
def test_where_half_of_the_base_weighs_nothing_the_tuners_stay(method, base):
    tuned = af.finetune(base, cut, method, 1.0, **SHORT)
    generator = torch.Generator().manual_seed(1)
    tilt = base.sample(5000, 8, generator=generator)
    tilt = tilt[tilt > 0]
    for steps in (1, 4, 64):
        drawn = tuned.sample(1000, steps, generator=generator)
        assert drawn.mean().item() == pytest.approx(tilt.mean().item(), abs=0.3)
        assert drawn.std().item() == pytest.approx(tilt.std().item(), abs=0.3)


class Shifted(af.FlowMap):
    """N(0, 1) moved by so much, by jumps or by the velocity."""

    def __init__(self, jump=0.0, flow=0.0):
        super().__init__((1,))
        self.jump, self.flow = jump, flow
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def velocity(self, x, t, condition=None):
        return torch.full_like(x, self.flow)

    def flow_map(self, x, s, t, condition=None):
        return x + (t - s) * self.jump


@pytest.mark.parametrize("far", [{"jump": 100.0}, {"flow": 100.0}, {"jump": torch.nan}])
def test_jumps_and_velocity_are_both_followed_and_a_number_that_is_none_is_far(far):
    runaway = Runaway("tilt", Shifted(), 256)
    runaway.check(Shifted(jump=10.0, flow=-10.0), 1)  # of a base whose farthest are at 2.6
    with pytest.raises(RunawayError, match="tilt ran away: at step 7 one sample in a hundred"):
        runaway.check(Shifted(**far), 7)


def test_a_few_samples_far_out_are_no_runaway():
    class Stray(Shifted):
        def flow_map(self, x, s, t, condition=None):
            return torch.where(x > 2.9, 1e6, x)

    Runaway("tilt", Shifted(), 256).check(Stray(), 1)


def test_a_base_of_one_point_may_stay_where_it_is():
    class Point(Shifted):
        def velocity(self, x, t, condition=None):
            return -x / (1 - t)

        def flow_map(self, x, s, t, condition=None):
            return x * (1 - t) / (1 - s)

    Runaway("tilt", Point(), 256).check(Point(), 1)


def test_looking_changes_neither_the_tuning_nor_any_random_number(base, monkeypatch):
    options: dict[str, Any] = {"steps": EVERY + 1, "batch_size": 8, "pool": 64}
    state = torch.get_rng_state()
    watched = af.finetune(base, cut, "tilt", 1.0, **options)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(Runaway, "check", lambda self, model, step: None)
    alone = af.finetune(base, cut, "tilt", 1.0, **options)
    for one, other in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_looks_are_few_beside_the_steps_and_progress_is_still_told(base, monkeypatch):
    seen, told = [], []
    monkeypatch.setattr(Runaway, "check", lambda self, model, step: seen.append(step))
    af.finetune(
        base, cut, "weighted", 1.0, steps=2 * EVERY + 3, batch_size=4, pool=64,
        progress=lambda step, steps, metrics: told.append(step),
    )  # fmt: skip
    assert seen == [EVERY, 2 * EVERY, 2 * EVERY + 3]
    assert told == list(range(1, 2 * EVERY + 4))
