"""Mixtures without symmetry: unequal weights, full and unequal covariances, float64."""

import pytest
import torch

from alignflow.targets import GaussianMixture


@pytest.fixture
def mixture(request) -> GaussianMixture:
    """Three components in as many dimensions as the test's parameter says."""
    d = request.param
    generator = torch.Generator().manual_seed(d)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = 2 * torch.randn(3, d, generator=generator, dtype=torch.float64)
    roots = torch.randn(3, d, d, generator=generator, dtype=torch.float64) / d**0.5
    return GaussianMixture(weights, means, 0.6 * roots @ roots.mT + 0.1 * torch.eye(d))
