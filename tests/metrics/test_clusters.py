"""The distance of distributions of clusters: what it must not see, what it must, and its scale."""

import pytest
import torch

from alignflow.coordinates import mean_free
from alignflow.metrics import cluster_wasserstein


@pytest.fixture
def clusters(generator):
    """40 clusters whose particles lie apart, so that no small move renames them."""
    corners = 4 * torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    jitter = torch.randn(40, 4, 3, generator=generator, dtype=torch.float64)
    return mean_free(corners + 0.1 * jitter)


def test_names_turns_and_the_order_of_samples_are_not_seen(clusters, generator):
    small = torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0], [0.1, 0, 0.1], [0, -0.1, 0]]))
    turned = clusters[torch.randperm(40, generator=generator)] @ small.double()
    renamed = turned[:, torch.tensor([2, 0, 3, 1])]
    assert float(cluster_wasserstein(clusters, renamed)) == pytest.approx(0, abs=1e-5)


def test_a_mirror_image_is_the_same_cluster(generator):
    # nearly in a plane, so that the mirror renames nothing
    square = 4 * torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    flat = mean_free(square + 0.1 * torch.randn(9, 4, 3, generator=generator, dtype=torch.float64))
    mirrored = flat * torch.tensor([1.0, 1.0, -1.0])
    assert float(cluster_wasserstein(flat, mirrored)) == pytest.approx(0, abs=1e-5)


def test_a_swelling_is_seen_as_long_as_it_is(clusters):
    """|x - 1.1 x| = 0.1 |x|, and no turn or name is nearer."""
    found = float(cluster_wasserstein(clusters, 1.1 * clusters))
    exact = 0.1 * clusters.square().sum((1, 2)).mean().sqrt().item()
    assert found == pytest.approx(exact, rel=0.01)


def test_two_samples_of_one_distribution_are_apart_by_their_noise(clusters):
    found = cluster_wasserstein(clusters[:20], clusters[20:])
    # 9 free numbers less 3 turns, each of variance 2 x 0.01; the nearest of 20 are nearer
    assert 0.1 < found.value < (6 * 0.02) ** 0.5 and found.standard_error > 0


def test_what_are_no_clusters_is_refused():
    with pytest.raises(ValueError, match=r"both \(N, n, D\), got \(3, 4, 2\) and \(2, 4, 2\)"):
        cluster_wasserstein(torch.zeros(3, 4, 2), torch.zeros(2, 4, 2))
