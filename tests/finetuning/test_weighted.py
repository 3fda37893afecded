"""Reward-weighted distillation: the tilt from scores alone, at any number of steps."""

import math
from functools import partial

import pytest
import torch

import alignflow as af
from alignflow.distillation import pretrain
from alignflow.finetuning import Weighted
from alignflow.metrics import sampling_floor, sliced_wasserstein
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import GaussianMixture, Linear

FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}
STRENGTH = 0.4

# on a line there is one direction
distance = partial(sliced_wasserstein, projections=1)


@pytest.fixture(scope="module")
def mixture():
    means, covariances = torch.tensor([[-2.0], [2.0]]), 0.25 * torch.ones(2, 1, 1)
    return GaussianMixture(torch.tensor([0.5, 0.5]), means, covariances)


@pytest.fixture(scope="module")
def base(mixture):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=64, depth=2, scale=2.0), (1,))
    seeded = torch.Generator().manual_seed(0)
    return pretrain(policy, mixture_draws(mixture), steps=500, generator=seeded, **FAST)


def mixture_draws(mixture):
    return mixture.sample(50_000, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tuned(base, mixture):
    """Tilted by the reward x, as a black box that answers in NumPy."""
    return af.finetune(
        base,
        lambda x: x[:, 0].numpy(),
        "weighted",
        STRENGTH,
        steps=400,
        data=mixture_draws(mixture),
        pool=16_384,
        generator=torch.Generator().manual_seed(2),
        **FAST,
    )


@pytest.mark.parametrize("steps", [2, 4, 16])
def test_a_mixture_reaches_its_tilt_within_a_few_sampling_floors(steps, tuned, base, mixture):
    tilted = mixture.tilted(Linear(torch.ones(1)), STRENGTH)
    n = 4096
    truth = tilted.sample(n, generator=torch.Generator().manual_seed(3))
    floor = sampling_floor(tilted, n, distance, generator=torch.Generator().manual_seed(4))
    drawn = tuned.sample(n, steps, generator=torch.Generator().manual_seed(5))
    before = base.sample(n, steps, generator=torch.Generator().manual_seed(5))
    # one floor is chance alone (it scatters by half of itself); the rest is a network of 4,000
    # weights trained for seconds. the untilted base stands at more than 10
    assert distance(drawn, truth).value < 3.5 * floor.value
    assert distance(before, truth).value > 10 * floor.value


def test_the_modes_have_the_weights_of_the_tilt(tuned):
    drawn = tuned.sample(4096, 4, generator=torch.Generator().manual_seed(6))
    # e^{strength m + strength^2 / 8} of each mode: the shift of the means is common
    exact = 1 / (1 + math.exp(-4 * STRENGTH))
    assert (drawn > 0).double().mean().item() == pytest.approx(exact, abs=0.04)


def test_a_constant_reward_gives_the_base_back(normal, generator):
    tuned = af.finetune(
        normal, lambda x: [5.0] * len(x), "weighted", 3.0, steps=100, generator=generator
    )
    drawn = tuned.sample(20_000, 4, generator=generator)
    assert drawn.mean().item() == pytest.approx(0, abs=0.06)
    assert drawn.std().item() == pytest.approx(1, abs=0.06)


def test_levels_reach_the_same_tilt_in_parts(normal, first, generator):
    tuned = af.finetune(
        normal,
        first,
        "weighted",
        1.5,
        steps=300,
        annealing_stages=3,
        pool=32_768,
        refresh_every=50,
        generator=generator,
        **FAST,
    )
    # the pool of one level is drawn from the network that the last one left, so errors add up
    drawn = tuned.sample(20_000, 4, generator=generator)
    assert drawn.mean().item() == pytest.approx(1.5, abs=0.15)
    assert drawn.std().item() == pytest.approx(1, abs=0.1)


def test_the_losses_are_those_it_names_under_the_keys_it_reads(normal, first, generator, bind):
    loss = bind(Weighted, normal, first, 1.0, pool=64, generator=generator)
    loss.set_keys(data="endpoint")
    batch = loss.sample_batch(8)
    assert set(batch.keys()) == {"endpoint"} and loss.in_keys[0] == "endpoint"
    assert set(loss(batch).keys()) == set(loss.out_keys)


def test_options_of_sampled_candidates_are_refused_with_data(normal, first, bind):
    for option in ({"candidate_steps": 2}, {"condition": 1}):
        with pytest.raises(ValueError, match="would do nothing with data"):
            bind(Weighted, normal, first, 1.0, data=torch.ones(4, 1), **option)


def test_candidates_that_all_lack_a_reward_are_refused(normal):
    lost = af.reward(on_invalid="drop", name="lost")(lambda x: x[:, 0] * torch.inf)
    with pytest.raises(ValueError, match="all candidates of a condition have weight 0"):
        af.finetune(normal, lost, "weighted", steps=1, batch_size=4, pool=16)
