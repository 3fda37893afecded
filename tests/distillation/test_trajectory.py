"""Jumps from the ODE's endpoint: the exact map in the limit of many steps, for any prediction."""

import pytest
import torch

import alignflow as af
from alignflow.distillation import FlowMapLoss, Trajectory
from alignflow.distillation.rules import Learner
from alignflow.policies import FlowMapPolicy, TokenDiT
from alignflow.predictions import AverageVelocity, MeanDenoiser
from alignflow.simplex import Logits
from alignflow.targets import GaussianMixture, Sequences

N = 32


def times(generator):
    s, t = torch.rand(2, N, generator=generator, dtype=torch.float64).sort(0).values
    return 0.9 * s, t.masked_fill(torch.arange(N) < 4, 1.0)


def exact_mean_denoiser(target, x, s, t):
    end = target.flow_map(x, s, t)
    s, t = (time.reshape(-1, *[1] * (x.ndim - 1)) for time in (s, t))
    return ((1 - s) * end - (1 - t) * x) / (t - s)


def error(target, prediction, steps, x, s, t):
    learner = Learner(lambda x, s, t: x, target.velocity, target.denoiser, prediction)
    _, found = Trajectory(steps)(learner, x, s, t)
    expected = exact_mean_denoiser(target, x, s, t)
    velocity = (expected - x) / (1 - s).reshape(-1, *[1] * (x.ndim - 1))
    return (found - prediction.target(velocity, x, s)).abs().amax()


@pytest.mark.parametrize(
    "prediction", [AverageVelocity(), MeanDenoiser()], ids=["average velocity", "mean denoiser"]
)
def test_errors_fall_with_the_square_of_the_steps(prediction, generator):
    target = GaussianMixture(
        torch.tensor([0.3, 0.7]).double(),
        torch.tensor([[-1.0, 0.5], [1.0, 0.0]]).double(),
        torch.stack([0.3 * torch.eye(2), 0.6 * torch.eye(2)]).double(),
    )
    x = torch.randn(N, 2, generator=generator, dtype=torch.float64)
    s, t = times(generator)
    errors = [error(target, prediction, steps, x, s, t) for steps in (8, 16, 32)]
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3 and errors[2] < 5e-3


def test_targets_of_a_list_stay_on_the_simplex_and_reach_its_map(generator):
    tokens = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    target = Sequences(tokens, torch.rand(9, generator=generator) + 0.1, vocabulary=3)
    x = torch.randn(N, 2, 3, generator=generator, dtype=torch.float64)
    s, t = times(generator)
    errors = [error(target, Logits(), steps, x, s, t) for steps in (16, 64)]
    assert errors[0] / errors[1] > 10 and errors[1] < 1e-3
    learner = Learner(lambda x, s, t: x, target.velocity, target.denoiser, Logits())
    _, found = Trajectory(3)(learner, x, s, t)
    torch.testing.assert_close(found.sum(-1), torch.ones(N, 2).double(), rtol=0, atol=1e-12)
    assert found.min() > -1e-12 and found.max() < 1 + 1e-12


def test_without_a_teacher_it_follows_the_model_and_conditions_reach_it(generator):
    policy = FlowMapPolicy(TokenDiT(2, 4, 16, 1, 2, infill=True), (2, 4), parametrization="simplex")
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    loss = FlowMapLoss(policy, Trajectory(2))
    x, fixed = policy.noise(5, generator), torch.tensor([[3, -1]]).expand(5, 2)
    learner = loss._learner(x, x, fixed)
    s, t = torch.zeros(5), torch.ones(5)
    prediction, found = loss.rule(learner, x, s, t)
    assert prediction.requires_grad and not found.requires_grad
    torch.testing.assert_close(found[:, 0], torch.eye(4)[3].expand(5, 4), rtol=0, atol=1e-5)


def test_pretrain_finds_it_by_name_and_bad_steps_are_refused():
    policy = FlowMapPolicy(TokenDiT(2, 4, 16, 1, 2), (2, 4), parametrization="simplex")
    tokens = torch.tensor([[0, 2], [1, 3]])
    options = {"loss": "trajectory", "steps": 2, "batch_size": 8}
    trained = af.pretrain(policy, tokens, teacher=Sequences(tokens, vocabulary=4), **options)
    assert trained.sample(3, steps=1, generator=0).shape == (3, 2, 4)
    with pytest.raises(ValueError, match="steps"):
        Trajectory(0)
