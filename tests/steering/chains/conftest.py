"""Models of normal data, whose flow is a closed form, and tilts of them that are normal."""

import pytest
import torch

import alignflow as af
from alignflow.interpolants import as_time, expand_time
from alignflow.targets import GaussianMixture, Quadratic


class Normal(GaussianMixture):
    """N(0, I) with its flow map and its stochastic map in closed form."""

    def __init__(self, dimension: int, dtype: torch.dtype = torch.float64):
        eye = torch.eye(dimension, dtype=dtype)
        super().__init__(torch.ones(1, dtype=dtype), 0 * eye[:1], eye[None])

    def flow_map(self, x, s, t, condition=None):
        start, end = (std(expand_time(as_time(time, x), x)) for time in (s, t))
        return x * end / start

    def posterior_flow(self, noise, x, t, condition=None):
        time = expand_time(as_time(t, x), x)
        mean, width = time * x / std(time).square(), (1 - time) / std(time)
        return mean.unsqueeze(1) + width.unsqueeze(1) * noise


def std(t: torch.Tensor) -> torch.Tensor:
    return (t.square() + (1 - t).square()).sqrt()


class Observed:
    """A linear inverse problem: two numbers a^T x, measured with noise, of three."""

    def __init__(self, dtype: torch.dtype = torch.float64):
        matrix = torch.tensor([[1.2, -0.8, 0.3], [0.2, 0.5, 1.0]], dtype=dtype)
        precision = matrix.T @ matrix / 0.5**2
        center = torch.linalg.lstsq(matrix, torch.tensor([1.0, -0.5], dtype=dtype)).solution
        self.policy = Normal(3, dtype)
        self.reward = Quadratic(center, precision)
        self.tilted = self.policy.tilted(self.reward, 1.0)

    def check(self, states: torch.Tensor, errors: float = 5.0) -> None:
        """Mean and covariance of samples, within so many standard errors of the tilt's."""
        mean, covariance = self.tilted.means[0].double(), self.tilted.covariances[0].double()
        centered = states.double() - mean
        products = centered.unsqueeze(1) * centered.unsqueeze(2)
        n = len(states)
        for found, exact in ((centered, 0 * mean), (products, covariance)):
            error = found.std(0) / n**0.5
            assert ((found.mean(0) - exact).abs() < errors * error).all(), (found.mean(0), exact)


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def normal() -> Normal:
    return Normal(2)


@pytest.fixture
def smooth() -> af.Reward:
    return af.reward(lambda x: x.sin().sum(-1), differentiable=True)
