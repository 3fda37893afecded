"""Fractions: rates of modes and classes, and rows never seen."""

import pytest
import torch

from alignflow.metrics import mode_weights_error, novelty, total_variation
from alignflow.targets import GaussianMixture, ring


def test_total_variation_of_rates():
    memberships = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = total_variation(memberships, torch.tensor([0.25, 0.25, 0.5]))
    assert found.value == pytest.approx(0.25)


def test_mode_weights_error_sees_missing_mass(generator):
    target = ring()
    assert mode_weights_error(target.sample(20_000, generator=generator), target).value < 0.02
    half = GaussianMixture(torch.ones(4), target.means[:4], target.covariances[:4])
    missing = mode_weights_error(half.sample(500, generator=generator), target)
    assert missing.value == pytest.approx(0.5, abs=0.05)


def test_novelty_is_the_fraction_of_rows_never_seen(generator):
    seen = torch.randint(0, 256, (50, 3, 4, 4), generator=generator, dtype=torch.uint8)
    fresh = torch.randint(0, 256, (30, 3, 4, 4), generator=generator, dtype=torch.uint8)
    assert novelty(torch.cat([seen[:10], fresh]), seen).value == pytest.approx(0.75)
    assert novelty(torch.tensor([[-0.0, 1.0]]), torch.tensor([[0.0, 1.0]])).value == 0
