"""Adaptive resampling: which systems are resampled, and what is refused."""

import math

import pytest
import torch

from alignflow.resampling import AdaptiveResampling, Potential, Search
from alignflow.tilt import Tilt

INF = math.inf


def of_strength(strength: float) -> Tilt:
    return Tilt(lambda x: x, strength)


def test_only_systems_with_few_particles_left_are_resampled_and_keep_their_mean_weight(weighed):
    values = torch.tensor([0.0, 0.0, 0.0, 9.0, 0.0, -9.0], dtype=torch.float64)
    tensordict = weighed(values, AdaptiveResampling(of_strength(1.0), 3, threshold=0.5))
    assert tensordict["state"][:3, 0].tolist() == [0, 1, 2]
    assert tensordict["state"][3:, 0].tolist() == [3, 3, 3]
    mean = values[3:].logsumexp(0) - math.log(3)
    torch.testing.assert_close(tensordict["log_weight"][3:], mean.expand(3))
    torch.testing.assert_close(tensordict["log_weight"][:3], values[:3])


def test_a_particle_that_was_dropped_stays_dropped(weighed):
    node = AdaptiveResampling(of_strength(1.0), 2, threshold=0.0)
    first = weighed(torch.tensor([-INF, 0.0], dtype=torch.float64), node)
    carried = first.select(*node.carries, strict=False)
    second = weighed(torch.tensor([5.0, 1.0], dtype=torch.float64), node, **carried)
    assert second["log_weight"].tolist() == [-INF, 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: AdaptiveResampling(of_strength(1.0), 2, scheme="lottery"),
            "scheme must be one of systematic",
        ),
        (
            lambda: AdaptiveResampling(of_strength(1.0), 2, threshold=1.5),
            "threshold must be a fraction",
        ),
        (lambda: Potential("sum"), "potential must be one of diff, max, add"),
        (lambda: Search(2, "world"), "scope must be one of system, particle"),
    ],
)
def test_unknown_names_and_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
