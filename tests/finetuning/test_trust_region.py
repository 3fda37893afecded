"""Trust regions: their exponent solves the dual and meets its bound; refusals."""

import pytest
import torch
from scipy.optimize import minimize_scalar

import alignflow as af
from alignflow.finetuning import ESSRegion, KLRegion
from alignflow.metrics.groups import ess_fraction, kl_from_uniform, normalize_by_group

GROUPS = torch.zeros(400, dtype=torch.int64)


@pytest.fixture
def log_weight(generator):
    return 3 * torch.randn(400, generator=generator).double()


@pytest.mark.parametrize("radius", [0.05, 0.3, 1.0])
def test_the_exponent_of_a_kl_solves_the_dual(radius, log_weight):
    """min over mu of (1 + mu) log E w^(1 / (1 + mu)) + mu epsilon, by a search of its own."""

    def dual(mu):
        mean = (log_weight / (1 + mu)).logsumexp(0) - torch.tensor(400.0).log()
        return ((1 + mu) * mean + mu * radius).item()

    best = minimize_scalar(dual, bounds=(0, 1e3), method="bounded", options={"xatol": 1e-9}).x
    found = KLRegion(radius).exponent(log_weight, GROUPS)
    assert found == pytest.approx(1 / (1 + best), rel=1e-4)
    weights = normalize_by_group(found * log_weight, GROUPS)
    assert kl_from_uniform(weights, GROUPS).item() == pytest.approx(radius, abs=1e-8)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_exponent_of_an_ess_leaves_as_many_effective(fraction, log_weight):
    found = ESSRegion(fraction).exponent(log_weight, GROUPS)
    weights = normalize_by_group(found * log_weight, GROUPS)
    assert ess_fraction(weights, GROUPS).item() == pytest.approx(fraction, abs=1e-8)


@pytest.mark.parametrize("region", [ESSRegion(0.5), KLRegion(0.5)], ids=str)
def test_nearby_weights_go_all_the_way_and_the_worst_group_counts(region, log_weight):
    assert region.exponent(0.01 * log_weight, GROUPS) == 1.0
    groups = (torch.arange(400) >= 200).long()
    mixed = torch.where(groups == 0, 0.01 * log_weight, log_weight)
    found = region.exponent(mixed, groups)
    alone = region.exponent(log_weight[200:], GROUPS[200:])
    assert found == pytest.approx(alone, abs=1e-9) and found < 1


@pytest.mark.parametrize("region", [ESSRegion(0.5), KLRegion(0.5)], ids=str)
def test_dropped_paths_have_no_weight_at_any_exponent(region, log_weight):
    dropped = log_weight.clone()
    dropped[:300] = -torch.inf
    found = region.exponent(dropped, GROUPS)
    assert 0 <= found < region.exponent(log_weight[300:], GROUPS[300:])


def test_the_kl_of_weights_is_that_of_their_group():
    weights = torch.tensor([0.5, 0.5, 0.0, 1.0, 0.25, 0.75]).double()
    groups = torch.tensor([0, 0, 0, 1, 2, 2])
    found = kl_from_uniform(weights.log(), groups).item()
    assert found == pytest.approx(torch.tensor(1.5).log().item())  # of two thirds


@pytest.mark.parametrize("method", ["log_variance", "proximal"])
def test_what_is_no_trust_region_is_refused(method, normal, first):
    with pytest.raises(ValueError, match=r"trust_region must be .*ESSRegion\(\), KLRegion\(\)"):
        af.finetune(normal, first, method, steps=1, trust_region=0.5)
    with pytest.raises(ValueError, match=r"ess_fraction must be a fraction in \(0, 1\), got 1.0"):
        ESSRegion(1.0)
    with pytest.raises(ValueError, match="radius must be a positive number, got 0"):
        KLRegion(0.0)
