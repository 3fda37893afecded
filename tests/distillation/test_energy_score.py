"""The energy score: closed forms of normal draws, its minimum, patches, a map that learned it."""

import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn

import alignflow as af
from alignflow.distillation import EnergyScore
from alignflow.distillation.energy_score import ScoredDraws, _patches
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import GaussianMixture

N = 20_000


def length(dimensions: int) -> float:
    """Mean length of a standard normal vector, over the root of its dimensions."""
    ratio = math.lgamma((dimensions + 1) / 2) - math.lgamma(dimensions / 2)
    return math.exp(ratio) * math.sqrt(2 / dimensions)


def expected(std: float, dimensions: int) -> float:
    """Score of draws N(0, std^2 I) of N(0, I)."""
    return length(dimensions) * (math.sqrt(1 + std**2) - std / math.sqrt(2))


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("draws", [2, 3])
@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_the_score_of_normal_draws_is_the_closed_form(draws, std, generator):
    """20,000 rows of 3 dimensions, five standard errors."""
    score = EnergyScore(draws=draws)(
        std * normal(generator, N, draws, 3), normal(generator, N, 3), generator
    )
    assert abs(score.mean() - expected(std, 3)) < 5 * score.std() / N**0.5


def test_patches_are_scored_beside_the_whole(generator):
    """20,000 images (1, 2, 2), of 4 and of 1 dimensions; five standard errors."""
    draws, x1 = 0.5 * normal(generator, N, 2, 1, 2, 2), normal(generator, N, 1, 2, 2)
    score = EnergyScore(patches=[1])(draws, x1, generator)
    exact = (expected(0.5, 4) + expected(0.5, 1)) / 2
    assert abs(score.mean() - exact) < 5 * score.std() / N**0.5


def test_its_gradient_in_the_spread_vanishes_at_the_data_s_and_nowhere_else(generator):
    """20,000 rows; five standard errors."""
    noise, x1 = normal(generator, N, 2, 3), normal(generator, N, 3)

    def gradient(std: float) -> tuple[float, float]:
        scale = torch.full((N, 1, 1), std, dtype=torch.float64, requires_grad=True)
        EnergyScore()(scale * noise, x1).sum().backward()
        assert scale.grad is not None
        return scale.grad.mean().item(), 5 * scale.grad.std().item() / N**0.5

    mean, error = gradient(1.0)
    assert abs(mean) < error
    assert gradient(0.9)[0] < -gradient(0.9)[1] and gradient(1.1)[0] > gradient(1.1)[1]


@pytest.mark.parametrize("shift", [[0, 0], [1, 2]])
def test_each_pixel_is_in_one_patch(shift):
    images = torch.arange(2 * 3 * 2 * 6 * 6).view(2, 3, 2, 6, 6)
    patches = _patches(images, 3, shift)
    assert patches.shape == (2, 3, 4, 18)
    for row in range(2):
        found = patches[row].flatten().sort().values
        assert torch.equal(found, images[row].flatten())
    first = images.roll(shift, dims=(-2, -1))[0, 0, :, :3, :3].flatten()
    assert torch.equal(patches[0, 0, 0], first)


@pytest.fixture(scope="module")
def target():
    """N(1, 0.5)."""
    return GaussianMixture(torch.ones(1), torch.ones(1, 1), 0.5 * torch.ones(1, 1, 1))


def test_draws_learn_the_posterior_by_their_score_alone(target, generator):
    """From a network that knows nothing; what is allowed is the training's error."""
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=32, depth=2), (1,))
    learned = af.learn_posterior(
        policy,
        target,
        steps=300,
        batch_size=128,
        learning_rate=5e-3,
        energy_score=EnergyScore(fraction=1.0),
        generator=generator,
    )
    for time in (0.0, 0.5):
        state = torch.tensor([[0.0], [0.5], [1.2]])
        drawn = learned.posterior_flow(torch.randn(3, N, 1, generator=generator), state, time)
        posterior = target.posterior(state, torch.full((3,), time))
        assert (drawn.mean(1) - posterior.means[:, 0]).abs().max() < 0.2
        assert (drawn.std(1) - posterior.covariances[:, 0, 0].sqrt()).abs().max() < 0.15


@pytest.mark.parametrize(("fraction", "scored"), [(0.0, 0), (0.25, 2), (1.0, 8)])
def test_losses_weigh_as_their_fractions_of_the_rows(fraction, scored, target, generator):
    class Rest(nn.Module):
        def forward(self, batch):
            return TensorDict({"loss_rest": batch["data"].mean()})

    policy = FlowMapPolicy(MLP(1, width=8, depth=1), (1,)).with_context()
    rows = TensorDict({"data": torch.ones(8, 1)}, [8])
    rows["condition"] = TensorDict({"time": torch.rand(8), "state": torch.zeros(8, 1)}, [8])
    losses = ScoredDraws(policy, EnergyScore(fraction), Rest(), generator)(rows)
    assert losses.get("loss_rest", torch.zeros(())).item() == 1 - scored / 8
    assert ("loss_score" in losses) == (scored > 0)


def test_a_teacher_that_is_the_policy_itself_is_glass(target):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=8, depth=1), (1,))
    first, second = (
        af.learn_posterior(policy, target, steps=3, batch_size=8, generator=0, teacher=teacher)
        for teacher in ("glass", policy)
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_it_cannot_score_is_refused(target):
    policy = FlowMapPolicy(MLP(1, width=8, depth=1), (1,))
    with pytest.raises(ValueError, match=r"patches=\[4\] are of images \(C, H, W\)"):
        af.learn_posterior(policy, target, energy_score=EnergyScore(patches=[4]))
    with pytest.raises(ValueError, match="energy_score must be an EnergyScore, or None"):
        af.learn_posterior(policy, target, energy_score=0.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="draws must be"):
        EnergyScore(draws=1)
    with pytest.raises(ValueError, match="patches must be sides"):
        EnergyScore(patches=4)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="teacher"):
        af.learn_posterior(policy, target, teacher=3)  # pyright: ignore[reportArgumentType]
