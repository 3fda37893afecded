"""What chains sample, against closed forms, and the base where nothing steers."""

import pytest
import torch

import alignflow as af
from alignflow.metrics import mode_weights_error
from alignflow.targets import GaussianMixture, Linear, Sequences, ring, ring_reward

from .conftest import Normal, Observed

EXACT = {"posterior": "exact", "jumps": 1}
CHAINS = {
    "waltz": ("waltz", 40, EXACT),
    "waltz, several draws": ("waltz", 16, EXACT | {"draws": 4}),
    "waltz, adapted": ("waltz", 40, EXACT | {"acceptance": 0.4}),
    "waltz, replicas": ("waltz", 24, EXACT | {"particles": 3}),
    "waltz, stochastic map": ("waltz", 40, {}),
    "waltz, glass": ("waltz", 40, {"posterior": "glass", "inner_steps": 8}),
    "slice": ("source_mcmc", 16, {"kernel": "slice", "jumps": 2}),
    "slice, few tries": ("source_mcmc", 60, {"kernel": {"name": "slice", "tries": 2}}),
    "slice, replicas": ("source_mcmc", 12, {"kernel": "slice", "particles": 2}),
    "pcn": ("source_mcmc", 60, {}),
    "pcn of one size": ("source_mcmc", 80, {"kernel": {"name": "pcn", "step_size": 0.5}}),
    "pcn, adapted": ("source_mcmc", 60, {"kernel": {"name": "pcn", "acceptance": 0.4}}),
    "pcnl": ("source_mcmc", 40, {"kernel": {"name": "pcnl", "step_size": 0.5}}),
    "pcnl, replicas": ("source_mcmc", 40, {"kernel": "pcnl", "particles": 2}),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_linear_inverse_problem_is_solved_in_mean_and_covariance(observed, name):
    """4,000 chains, five standard errors, in float64."""
    method, steps, options = CHAINS[name]
    steerer = af.steer(observed.policy, observed.reward, method, steps=steps, **options)
    observed.check(steerer.sample(4000, generator=0)["state"])


@pytest.mark.parametrize("method", ["waltz", "source_mcmc"])
def test_float32_has_the_tilt_too(method):
    observed = Observed(torch.float32)
    out = af.steer(observed.policy, observed.reward, method, steps=40).sample(2000, generator=0)
    assert out["state"].dtype == torch.float32
    observed.check(out["state"])


def test_weighted_draws_are_exact_as_they_grow(observed):
    """2,000 chains of 64 draws; their weights leave a bias of the order of 1 / draws."""
    options = {"posterior": "renoised", "draws": 64, "steps": 8}
    out = af.steer(observed.policy, observed.reward, "waltz", **options).sample(2000, generator=0)
    error = out["state"].mean(0) - observed.tilted.means[0]
    assert error.norm() < 0.1


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("method", ["waltz", "source_mcmc"])
def test_replicas_sample_the_tilts_of_their_strengths(method, particles):
    """Of N(0, I) by a linear reward: N(f lambda a, I) at a fraction f of the strength."""
    slope = torch.tensor([1.0, -0.5], dtype=torch.float64)
    options = EXACT if method == "waltz" else {}
    steerer = af.steer(
        Normal(2), Linear(slope), method, strength=1.0, steps=64, particles=particles, **options
    )
    out = steerer.sample(3000, generator=1)
    fractions = torch.linspace(0, 1, particles) if particles > 1 else torch.ones(1)
    mean = fractions.double().unsqueeze(1) * slope
    error = 5 / 3000**0.5
    assert ((out["particles", "state"].mean(0) - mean).abs() < error).all()
    weight = out["particles", "log_weight"]
    assert (weight[:, -1] == 0).all() and (weight[:, :-1] == -torch.inf).all()
    assert torch.equal(out["state"], out["particles", "state"][:, -1])


def test_a_chain_at_strength_0_accepts_all_and_stays_at_the_base():
    """2,000 chains of 12 steps between two modes of weights .3 and .7."""
    weights, means = torch.tensor([0.3, 0.7]), torch.tensor([[-2.0], [1.5]])
    base = GaussianMixture(weights, means, 0.2 * torch.ones(2, 1, 1)).double()
    steerer = af.steer(base, lambda x: x[:, 0], "waltz", strength=0.0, steps=12, **EXACT)
    out = steerer.sample(2000, generator=0, return_chain=True)
    assert out["chain_accepted"].all()
    right = (out["chain"][:, :, 0] > 0).double().mean(0)
    assert ((right - 0.7).abs() < 5 * (0.3 * 0.7 / 2000) ** 0.5).all()
    crossed = (out["chain"][:, 0] > 0) != (out["chain"][:, -1] > 0)
    assert 0.35 < crossed.double().mean() < 0.5  # 2 .3 .7 of independent ends


def test_the_modes_of_the_ring_come_out_with_their_weights():
    """1,000 chains, whose error is at most twice that of as many exact samples, near .02."""
    target, reward = ring(), ring_reward()
    tilted = target.tilted(reward, 1.0)
    out = af.steer(target, reward, "waltz", steps=48, **EXACT).sample(1000, generator=0)
    exact = mode_weights_error(tilted.sample(1000, generator=0), tilted)
    found = mode_weights_error(out["state"], tilted)
    assert float(found) < 2 * float(exact) < 0.1


@pytest.mark.parametrize("posterior", ["exact", "glass"])
def test_strings_are_steered_as_any_other_states(posterior):
    """400 chains between two strings of weights 1 and 3, by a reward of what they spell."""
    target = Sequences(["New York", "San Diego"], weights=[1.0, 3.0])
    reward = af.Reward(lambda strings: [1.0 if text[0] == "N" else 0.0 for text in strings])
    options = {"posterior": posterior, "jumps": 1, "inner_steps": 6, "steps": 12, "strength": 2.0}
    out = af.steer(target, reward, "waltz", **options).sample(400, generator=0)
    rate = torch.tensor([text == "New York" for text in target.decode(out["state"])]).double()
    exact = torch.e**2 / (torch.e**2 + 3)
    assert abs(rate.mean() - exact) < 5 * (exact * (1 - exact) / 400) ** 0.5


def test_an_aimed_acceptance_is_met():
    """Of 500 chains in the second half of 100 steps."""
    target, reward = Normal(2), Linear(torch.tensor([2.0, 0.0], dtype=torch.float64))
    for aimed in (None, 0.2):
        steerer = af.steer(target, reward, "waltz", steps=100, acceptance=aimed, **EXACT)
        out = steerer.sample(500, generator=0, return_chain=True)
        found = out["chain_accepted"][:, 50:].double().mean().item()
        assert (abs(found - 0.2) < 0.06) == (aimed is not None), found
