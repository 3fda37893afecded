"""Methods with a learned value: what the exact one would do, what SMC corrects, what it costs."""

import pickle

import pytest
import torch

import alignflow as af
from alignflow.checkpoint import digest
from alignflow.policies import MLP
from alignflow.steering import Steerer
from alignflow.targets import GaussianMixture
from alignflow.targets.rewards import Linear
from alignflow.values import LearnedValue, ValueFunction

STD = 0.7


def gaussian() -> GaussianMixture:
    covariance = STD**2 * torch.eye(2, dtype=torch.float64).unsqueeze(0)
    one = torch.ones(1, 2, dtype=torch.float64)
    return GaussianMixture(torch.ones(1, dtype=torch.float64), one, covariance)


def linear() -> Linear:
    return Linear(torch.tensor([1.0, -0.5], dtype=torch.float64))


class ExactValue(ValueFunction):
    """The closed form, and what is added to it to make it wrong."""

    def __init__(self, target, reward, wrong=lambda x, t: 0.0):
        super().__init__(reward.name, digest(target), tuple(target.event_shape), (0.0, 4.0))
        self.target, self.scored, self.wrong = target, reward, wrong

    def forward(self, x, t, strength, condition=None):
        exact = self.target.value(x, t, self.scored, strength[0].item())
        return exact + self.wrong(x, t)


def steerer(method: str, wrong=lambda x, t: 0.0, **options) -> Steerer:
    target, reward = gaussian(), linear()
    value = ExactValue(target, reward, wrong)
    return af.steer(target, reward, method, strength=1.5, value=value, **options)


SDE = {"name": "sde", "data_std": STD}


def test_twisted_by_the_exact_value_all_weights_are_equal(generator):
    """To 1e-4, the time that stands for 0; twisted by half of it they are not."""
    options = {"transition": SDE, "steps": 5, "particles": 64, "threshold": 0.0}
    exact = steerer("twisted_smc", **options).sample(3, generator=generator)
    assert exact["particles", "log_weight"].std() < 1e-3
    half = steerer("twisted_smc", lambda x, t: 0.3 * x[:, 0], **options)
    assert half.sample(3, generator=generator)["particles", "log_weight"].std() > 0.1


@pytest.mark.parametrize("method", ["twisted_smc", "fk"])
def test_a_wrong_value_is_corrected_by_the_weights(method, generator):
    """2,000 systems of 4, five standard errors; the last step of the SDE ends at the denoiser."""

    def wrong(x, t):
        # its gradient vanishes at time 0, as that of every value does
        return t * (0.5 * (3 * x[:, 0]).sin() + (1 - t) * x[:, 1])

    options = {"transition": SDE, "steps": 4, "particles": 4}
    out = steerer(method, wrong, **options).sample(2000, generator=generator)
    log_weight = out["particles", "log_weight"]
    estimates = log_weight.exp().mean(1)
    target, reward, time = gaussian(), linear(), 0.75
    gain = time * STD**2 / (time**2 * STD**2 + (1 - time) ** 2)
    ends = gain * time * STD**2  # variance of the denoiser at the last step
    direction = torch.tensor([1.0, -0.5], dtype=torch.float64)
    exact = (1.5 * reward(target.means)[0] + 1.5**2 * ends * direction.square().sum() / 2).exp()
    assert (estimates.mean() - exact).abs() < 5 * estimates.std() / 2000**0.5
    # and the weighted mean of the samples is the tilt's
    weight = log_weight.exp()[..., None] / log_weight.exp().mean()
    shift = (weight * (out["particles", "state"] - 1)).mean(1)
    error = 5 * shift.std(0) / 2000**0.5
    assert ((shift.mean(0) - 1.5 * ends * direction).abs() < error + 0.01).all()


@pytest.mark.parametrize("transition", ["flow_map", "euler", "heun"])
def test_guidance_by_the_exact_value_samples_the_tilt(transition, generator):
    """4,000 samples; the mean of 16 steps of first order is off by less than .05."""
    out = steerer("value_guidance", transition=transition, steps=16).sample(
        4000, generator=generator
    )
    exact = gaussian().tilted(linear(), 1.5)
    error = 5 * STD / 4000**0.5 + 0.05
    assert ((out["state"].mean(0) - exact.means[0]).abs() < error).all()
    assert ((out["state"].std(0) - STD).abs() < error).all()


def test_a_step_costs_a_forward_of_each_and_a_gradient_of_the_value():
    out = steerer("value_guidance", steps=4).sample(3)
    assert (out["nfe"], out["vjps"]) == (8, 4) and out["reward_calls"] == 1
    assert steerer("value_guidance", steps=4).cost.nfe == 8
    graph = steerer("value_guidance", steps=4).graph()
    assert [node["name"].partition("(")[0] for node in graph["nodes"][:1]] == ["LearnedTilt"]
    assert graph["nodes"][0]["writes"] == ["value", "correction"]


def test_micro_batches_change_nothing(generator):
    whole = steerer("value_guidance", steps=3).sample(7, generator=1)["state"]
    parts = steerer("value_guidance", steps=3, micro_batch_size=2).sample(7, generator=1)["state"]
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("t_min", [0.0, 0.3])
def test_steps_before_t_min_are_the_model_s(t_min):
    out = steerer("value_guidance", steps=4, t_min=t_min).sample(2)
    assert out["vjps"] == (4 if t_min == 0 else 2)


def test_the_best_of_n_drops_particles_of_low_value_early(generator):
    pruned = steerer("best_of_n", particles=16, steps=8)
    out = pruned.sample(500, generator=generator)
    # 16 at time 0, and then 14, 12, ..., 2 of which one more is asked for its value each time
    assert out["particles", "state"].shape == (500, 2, 2) and out["reward_calls"] == 2
    assert pruned.cost.nfe == 16 + sum(2 * k + 2 * (k - 1) for k in range(8, 1, -1)) + 0
    assert torch.equal(out["reward"], out["particles", "reward"].amax(1))
    target, reward = gaussian(), linear()
    single = af.steer(target, reward, "best_of_n", particles=1, steps=8)
    whole = af.steer(target, reward, "best_of_n", particles=16, steps=8)
    means = [each.sample(500, generator=0)["reward"].mean() for each in (single, whole)]
    # the flow of a Gaussian keeps the order of its particles: hardly anything is lost
    assert out["reward"].mean() > means[0] + 0.9 * (means[1] - means[0])


def test_a_pruned_trajectory_is_that_of_the_particle(generator):
    out = steerer("best_of_n", particles=5, steps=3).sample(
        4, generator=generator, return_trajectory=True
    )
    torch.testing.assert_close(out["trajectory"][:, -1], out["state"])
    end = gaussian().flow_map(out["trajectory"][:, 0], 0.0, 1.0)
    torch.testing.assert_close(end, out["state"])


def test_a_lookahead_beside_a_learned_value_is_refused():
    for method in ("fk", "twisted_smc"):
        with pytest.raises(ValueError, match="posterior='flow_map' would do nothing beside a lea"):
            steerer(method, posterior="flow_map")


def test_nodes_of_ones_own_choice_may_be_of_a_learned_value(generator):
    value = ExactValue(gaussian(), linear())
    out = af.steer(
        gaussian(), linear(), "custom", strength=1.5, particles=4, resampler="adaptive",
        value={"name": "learned_gradient", "value": value}, corrections=["ramped"],
        transition="anchored", steps=4,
    ).sample(3, generator=generator)  # fmt: skip
    assert out["state"].isfinite().all()
    with pytest.raises(ValueError, match="weighs particles by their value|lacks the key 'value'"):
        af.steer(gaussian(), linear(), "custom", particles=4, resampler="adaptive")


def test_a_steerer_with_a_learned_value_can_be_pickled():
    target, reward = gaussian(), linear()
    network = MLP(2, width=8, depth=1).double()
    value = LearnedValue(network, reward.name, digest(target), (2,))
    made = af.steer(target, reward, "value_guidance", value=value, steps=2)
    again = pickle.loads(pickle.dumps(made))
    before, after = (each.sample(3, generator=1)["state"] for each in (made, again))
    torch.testing.assert_close(after, before)
