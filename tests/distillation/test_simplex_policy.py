"""A policy on the simplex, defined here alone: logits, a cross-entropy, and the semigroup of them.

The text is New York or San Diego, one half each: two tokens that go together. Drawn each for
itself, as from the denoiser at time 0, they make four pairs; one jump of the flow map makes two.
"""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.distillation import ESD, LSD, CrossEntropy, FlowMapLoss, UniformTimes
from alignflow.interpolants import (
    average_velocity_from_mean_denoiser,
    denoiser_from_velocity,
    expand_time,
    flow_map_from_mean_denoiser,
)
from alignflow.predictions import Prediction
from alignflow.trainable import TrainablePolicy

TOKENS = ("New", "San", "York", "Diego")
PAIRS = torch.tensor([[0, 2], [1, 3]])  # New York, San Diego
SAMPLES = 4000


class Logits(Prediction):
    """Logits z_{s,t} of delta_{s,t} = softmax(z), learned by cross-entropy."""

    regression = robust = CrossEntropy()

    def predict(self, policy, x, s, t, condition):
        return policy.module(x, s, t)

    def average_velocity(self, prediction, x, s):
        return average_velocity_from_mean_denoiser(x, s, prediction.softmax(-1))

    def jump(self, prediction, x, s, t):
        return flow_map_from_mean_denoiser(x, s, t, prediction.softmax(-1))

    def target(self, velocity, x, t):
        return denoiser_from_velocity(x, t, velocity)

    def semigroup(self, first, second, fraction, s, u, t):
        # gamma delta_{s,u} + (1 - gamma) delta_{u,t}
        gamma = expand_time((1 - t) * fraction / (1 - u), first)
        return torch.lerp(second.softmax(-1), first.softmax(-1), gamma)


class TextPolicy(TrainablePolicy):
    """States (2, V), one-hot tokens at time 1."""

    prediction = Logits()

    def __init__(self, module):
        super().__init__((2, len(TOKENS)))
        self.module = module

    def mean_denoiser(self, x, s, t, condition=None):
        return self.module(x, s, t).softmax(-1)

    def average_velocity(self, x, s, t, condition=None):
        return self.prediction.average_velocity(self.module(x, s, t), x, s)

    def flow_map(self, x, s, t, condition=None):
        s, t = (torch.as_tensor(time, dtype=x.dtype).expand(len(x)) for time in (s, t))
        return self.prediction.jump(self.module(x, s, t), x, s, t)


class Network(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        size = 2 * len(TOKENS)
        self.layers = nn.Sequential(
            nn.Linear(size + 2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, size),
        )  # fmt: skip

    def forward(self, x, s, t):
        inputs = torch.cat([x.flatten(1), s[:, None], t[:, None]], 1)
        return self.layers(inputs).unflatten(1, x.shape[1:])


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    states = nn.functional.one_hot(PAIRS, len(TOKENS)).float()
    return af.pretrain(
        TextPolicy(Network()), states, "psd", steps=1000, batch_size=256, learning_rate=5e-3,
        diagonal_fraction=0.5, times=UniformTimes(boundary=0.25), ema_decay=0.99, generator=0,
    )  # fmt: skip


def fractions(tokens):
    """Of New York, San Diego, and of any other pair."""
    true = [(tokens == pair).all(1).double().mean().item() for pair in PAIRS]
    return [*true, 1 - sum(true)]


def test_one_step_of_the_flow_map_draws_the_two_true_pairs(policy, generator):
    tokens = policy.sample(SAMPLES, steps=1, generator=generator).argmax(-1)
    new_york, san_diego, other = fractions(tokens)
    # five standard errors of 4,000 draws are 0.04; the rest is what 1,000 steps leave
    assert new_york == pytest.approx(0.5, abs=0.06)
    assert san_diego == pytest.approx(0.5, abs=0.06)
    assert other < 0.03


def test_tokens_drawn_each_for_itself_make_four_pairs(policy, generator):
    noise = policy.noise(SAMPLES, generator)
    with torch.no_grad():
        marginals = policy.denoiser(noise, 0.0).flatten(0, 1)
    tokens = marginals.multinomial(1, generator=generator).view(SAMPLES, 2)
    new_york, san_diego, other = fractions(tokens)
    assert new_york == pytest.approx(0.25, abs=0.06)
    assert san_diego == pytest.approx(0.25, abs=0.06)
    assert other == pytest.approx(0.5, abs=0.06)


def test_the_loss_matches_a_velocity_as_a_denoiser(policy, generator):
    """At the policy's softmax(z) the cross-entropy has no gradient in the logits."""
    x, t = policy.noise(8, generator), torch.full((8,), 0.3)
    learned = TextPolicy(Network())
    learned.load_state_dict(policy.state_dict())
    FlowMapLoss(learned).match(x, t, lambda velocity: velocity).backward()
    assert max(p.grad.abs().max() for p in learned.parameters()) < 1e-5


@pytest.mark.parametrize("rule", [LSD(), ESD()], ids=["lsd", "esd"])
def test_rules_of_velocities_are_refused(rule, policy):
    with pytest.raises(ValueError, match="Logits predicts something else: distil it with PSD"):
        FlowMapLoss(policy, rule)
