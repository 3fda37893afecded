"""The blend of a base and a tuning: its ends, what it is of normal distributions, and its error."""

import pytest
import torch

import alignflow as af
from alignflow.blended import Blended
from alignflow.flow_map import FlowMap
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import GaussianMixture, Linear, Quadratic

TIMES = torch.tensor([0.0, 0.3, 0.7, 0.95], dtype=torch.float64)


def normal(mean, covariance):
    return GaussianMixture(torch.ones(1).double(), mean[None].double(), covariance[None].double())


@pytest.fixture
def base():
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]])
    return normal(torch.tensor([0.5, -1.0]), covariance)


def states(n=7):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_fraction_0_is_the_base_and_1_the_tuned_policy_to_the_bit():
    torch.manual_seed(0)
    base, tuned = (FlowMapPolicy(MLP(2, width=8, depth=1), (2,)) for _ in range(2))
    for fraction, model in ((0.0, base), (1.0, tuned)):
        blended = Blended(base, tuned, fraction)
        assert torch.equal(blended.sample(9, 3, generator=0), model.sample(9, 3, generator=0))
        x = states().float()
        assert torch.equal(blended.velocity(x, 0.4), model.velocity(x, 0.4))


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_of_a_normal_base_and_a_linear_reward_it_is_the_tilt_at_that_fraction(base, fraction):
    reward = Linear(torch.tensor([1.0, -0.5], dtype=torch.float64))
    blended = Blended(base, base.tilted(reward, 4.0), fraction)
    exact = base.tilted(reward, 4.0 * fraction)
    for t in TIMES:
        x = states()
        torch.testing.assert_close(blended.velocity(x, t), exact.velocity(x, t))
        torch.testing.assert_close(blended.flow_map(x, t, 1.0), exact.flow_map(x, t, 1.0))


def test_of_normal_distributions_it_has_the_geometric_mean_of_their_stds():
    """Under a bowl N(0, 1) becomes N(0, 1/(1 + lambda)); the tilt at half of it has another std."""
    base = normal(torch.zeros(1), torch.eye(1))
    bowl = Quadratic(torch.zeros(1, dtype=torch.float64), precision=1.0)
    blended = Blended(base, base.tilted(bowl, 3.0), 0.5)
    x = torch.tensor([[1.0]], dtype=torch.float64)
    steps, end = 4000, x
    for k in range(steps):
        end = end + blended.velocity(end, (k + 0.5) / steps) / steps
    assert end.item() == pytest.approx(0.25**0.25, abs=2e-3)
    exact = base.tilted(bowl, 1.5).flow_map(x, 0.0, 1.0).item()
    assert exact == pytest.approx(0.4**0.5, abs=1e-6)
    assert abs(end.item() - exact) > 0.05


def test_of_modes_that_lie_apart_it_is_no_tilt():
    """Weights of modes are not linear in the strength: beyond 0 half of a strong tilt is most of
    the way to it, and half of the drift is not."""
    means = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    base = GaussianMixture(torch.ones(2).double() / 2, means, torch.eye(1).double().expand(2, 1, 1))
    reward = Linear(torch.ones(1, dtype=torch.float64))
    blended, exact = Blended(base, base.tilted(reward, 2.0), 0.5), base.tilted(reward, 1.0)
    x = torch.zeros(1, 1, dtype=torch.float64)
    assert (blended.velocity(x, 0.5) - exact.velocity(x, 0.5)).abs().item() > 0.1


def test_it_is_steered_as_any_flow_map_and_pays_for_two():
    torch.manual_seed(0)
    base, tuned = (FlowMapPolicy(MLP(2, width=8, depth=1), (2,)) for _ in range(2))
    steerer = af.steer(Blended(base, tuned, 0.3), lambda x: x[:, 0], "best_of_n", steps=2,
                       particles=3)  # fmt: skip
    out = steerer.sample(4, generator=0)
    assert out["state"].shape == (4, 2) and out["nfe"] == 12


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan"), "half"])
def test_what_is_no_fraction_is_refused(base, fraction):
    with pytest.raises(ValueError, match="fraction must be a fraction in"):
        Blended(base, base, fraction)


def test_states_of_other_shapes_are_refused(base):
    class Other(FlowMap):
        pass

    with pytest.raises(ValueError, match="states of one shape"):
        Blended(base, Other((3,)), 0.5)
