"""Defaults follow from the model: what its particles move by, and in how many steps."""

import pytest
import torch

import alignflow as af
from alignflow.policies import MLP
from alignflow.resampling import AdaptiveResampling, Potential, Work
from alignflow.transitions import SDE, Anchored

PARTICLES = ("fk", "twisted_smc", "fmtt")


@pytest.fixture
def learned():
    torch.manual_seed(0)
    return af.FlowMapPolicy(MLP(2, width=8, depth=1), (2,))


@pytest.fixture
def exact():
    return af.targets.ring()


def right():
    return af.reward(differentiable=True)(lambda x, condition=None: x[:, 0])


@pytest.mark.parametrize("method", PARTICLES)
def test_particles_of_a_learned_map_move_by_its_jumps_in_few_steps(learned, method):
    steerer = af.steer(learned, right(), method, particles=3)
    assert isinstance(steerer.nodes.transition, Anchored) and steerer.steps == 4
    assert "Anchored" in repr(steerer) and "4 steps" in repr(steerer)


@pytest.mark.parametrize("method", PARTICLES)
def test_particles_of_a_model_whose_jumps_are_computed_move_by_its_sde(exact, method):
    by_ode = af.from_velocity(exact.velocity, (2,))
    for model in (exact, by_ode):
        steerer = af.steer(model, right(), method, particles=3)
        assert isinstance(steerer.nodes.transition, SDE) and steerer.steps == 8


def test_a_map_given_as_a_callable_counts_as_learned(exact):
    jump = af.from_flow_map(exact.flow_map, (2,))
    assert isinstance(af.steer(jump, right(), "fk", particles=3).nodes.transition, Anchored)


@pytest.mark.parametrize("method", ["fk", "twisted_smc"])
def test_a_transition_and_steps_that_are_given_stay(learned, method):
    steerer = af.steer(learned, right(), method, particles=3, steps=6, transition="sde")
    assert isinstance(steerer.nodes.transition, SDE) and steerer.steps == 6


def test_fmtt_weighs_by_work_along_the_sde_and_by_densities_else(learned, exact):
    def account(model, **options):
        resampler = af.steer(model, right(), "fmtt", particles=3, **options).nodes.resampler
        assert isinstance(resampler, AdaptiveResampling)
        return resampler.potential

    assert isinstance(account(exact), Work) and isinstance(account(learned, noise=0.5), Work)
    ramped = account(learned)
    assert isinstance(ramped, Potential) and ramped.ramped


def test_fmtt_by_jumps_is_consistent_with_the_tilt_of_a_normal_model():
    one = torch.ones(1)
    target = af.targets.GaussianMixture(one, torch.zeros(1, 2), torch.eye(2)[None])
    jump = af.from_flow_map(target.flow_map, (2,))
    steerer = af.steer(jump, right(), "fmtt", strength=1.0, particles=20_000)
    particles = steerer.sample(1, generator=torch.Generator().manual_seed(0))["particles"]
    weight = particles["log_weight"].softmax(-1)
    mean = (weight @ particles["state"][0, :, 0])[0]
    ess = 1 / weight.square().sum()
    assert abs(mean - 1.0) < 5 / ess.sqrt()  # of the tilt N(1, 1)
