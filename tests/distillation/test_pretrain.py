"""Pretraining: every rule learns the exact map of a Gaussian, from data or from a teacher."""

import math

import pytest
import torch

from alignflow.data import batches
from alignflow.distillation import UniformTimes, learn_posterior, pretrain
from alignflow.policies import MLP, FlowMapPolicy, from_velocity

MEAN, VARIANCE = 0.7, 0.3


def quantiles(t):
    """States at time t within two standard deviations of the mean; the map keeps them so."""
    std = (t**2 * VARIANCE + (1 - t) ** 2) ** 0.5
    return t * MEAN + std * torch.linspace(-2, 2, 41)[:, None]


def error(policy, s, t):
    with torch.no_grad():
        return (policy.flow_map(quantiles(s), s, t) - quantiles(t)).square().mean().sqrt()


def gaussian_velocity(x, t, condition=None):
    t = t[:, None]
    total = t**2 * VARIANCE + (1 - t) ** 2
    return MEAN + (t * VARIANCE - (1 - t)) / total * (x - t * MEAN)


RUN = {
    "steps": 400,
    "batch_size": 512,
    "learning_rate": 1e-2,
    "decay": 0.7,
    "ema_decay": 0.98,
    "diagonal_fraction": 0.5,
}


class Gaussian:
    def sample(self, n, generator=None):
        return MEAN + VARIANCE**0.5 * torch.randn(n, 1, generator=generator)


def untrained():
    torch.manual_seed(0)
    return FlowMapPolicy(MLP(1, 64, 2), (1,))


@pytest.mark.parametrize("loss", ["psd", "psd_midpoint", "lsd", "esd", "meanflow"])
def test_each_rule_learns_the_map_of_a_gaussian(loss, generator):
    policy = pretrain(
        untrained(), Gaussian(), loss, times=UniformTimes(boundary=0.2), generator=generator, **RUN
    )
    for s, t in [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0)]:
        # untrained, the error is 0.4 to 0.8; what is left is the noise of 400 batches
        assert error(policy, s, t) < 0.12, (s, t)


def test_a_map_is_distilled_from_a_teacher_and_runs_both_ways_when_asked(generator):
    teacher = from_velocity(gaussian_velocity, (1,))
    policy = pretrain(
        untrained(),
        Gaussian(),
        "lsd",
        teacher=teacher,
        times=UniformTimes(both_directions=True),
        generator=generator,
        **RUN,
    )
    assert policy.invertible
    for s, t in [(0.0, 1.0), (1.0, 0.0)]:
        assert error(policy, s, t) < 0.12, (s, t)


def test_the_given_policy_is_untouched(generator):
    policy = untrained()
    before = [p.clone() for p in policy.parameters()]
    pretrain(policy, Gaussian(), steps=3, batch_size=8, generator=generator)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_what_comes_out_can_be_trained_further(generator):
    once = pretrain(untrained(), Gaussian(), steps=2, batch_size=8, generator=generator)
    twice = pretrain(once, Gaussian(), steps=2, batch_size=8, generator=generator)
    moved = [
        not torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True)
    ]
    assert any(moved)


def test_a_part_that_is_frozen_stays_as_it_is(generator):
    policy = untrained()
    first, *rest = policy.parameters()
    first.requires_grad_(False)
    trained = pretrain(policy, Gaussian(), steps=2, batch_size=8, generator=generator)
    first_after, *moved = trained.parameters()
    assert torch.equal(first_after, first)
    assert any(not torch.equal(a, b) for a, b in zip(rest, moved, strict=True))


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, i):
        return torch.full((1,), float(i)), i


@pytest.mark.parametrize(
    "data",
    [torch.zeros(5, 1), torch.utils.data.TensorDataset(torch.zeros(5, 1), torch.zeros(5).long()),
     Pairs(), Gaussian(), lambda n: torch.zeros(n, 1)],
    ids=["tensor", "TensorDataset", "pairs", "sampler", "call"],
)  # fmt: skip
def test_data_comes_as_a_tensor_a_data_set_a_sampler_or_a_call(data, generator):
    batch = batches(data, 7)(generator)
    assert batch["data"].shape == (7, 1) and batch.batch_size == (7,)


def test_labels_of_a_data_set_are_its_conditions(generator):
    batch = batches(Pairs(), 7)(generator)
    assert torch.equal(batch["condition"].float(), batch["data"][:, 0])


REFUSED = {
    "steps": [0, 2.5, math.nan, "many"],
    "batch_size": [0, 2.5, math.nan, "many"],
    "diagonal_fraction": [-0.1, 1.1, math.nan],
    "condition_dropout": [-0.1, 1.1, math.nan],
    "invertibility": [-0.1, math.inf, math.nan, "much"],
    "generator": [-1, 2.5, "seed"],
    "compile": ["maybe", 1],
    "loss": ["magic", None],
    "learning_rate": [0, -1, math.nan],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_number_that_is_none_of_its_kind_is_refused_by_name(name, value):
    options = {"steps": 1, "batch_size": 4, name: value}
    with pytest.raises(ValueError, match=name):
        pretrain(untrained(), Gaussian(), **options)
    with pytest.raises(ValueError, match=name):
        learn_posterior(untrained(), Gaussian(), **options)


def test_a_seed_stands_for_a_generator_and_floats_for_counts():
    one = pretrain(untrained(), Gaussian(), steps=2.0, batch_size=8.0, generator=3)
    generator = torch.Generator().manual_seed(3)
    other = pretrain(untrained(), Gaussian(), steps=2, batch_size=8, generator=generator)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_mistakes_at_the_door_are_named():
    with pytest.raises(ValueError, match="needs a policy with a network"):
        pretrain(from_velocity(gaussian_velocity, (1,)), Gaussian())
    with pytest.raises(ValueError, match="is empty"):
        batches(torch.zeros(0, 1), 4)
    with pytest.raises(TypeError, match="got int"):
        batches(3, 4)
    with pytest.raises(TypeError, match="learning_rat"):
        pretrain(untrained(), Gaussian(), steps=1, learning_rat=1.0)
