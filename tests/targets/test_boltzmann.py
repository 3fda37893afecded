"""Reference distributions of clusters: what is shipped, its density, and what is refused."""

import pytest
import torch

from alignflow.checkpoint import CheckpointError, save_folder
from alignflow.coordinates import from_relative
from alignflow.targets import Boltzmann, boltzmann, double_well


@pytest.mark.parametrize("level", ["cold", "hot"])
@pytest.mark.parametrize("cluster", ["dw4", "lj13"])
def test_shipped_samples_have_like_particles_and_the_virial_of_their_temperature(cluster, level):
    """E[x . grad E] = d T: an identity of every Boltzmann distribution; 4,000 or 8,000 samples."""
    reference = boltzmann(cluster, level)
    x = reference.samples.double().requires_grad_()
    (gradient,) = torch.autograd.grad(reference.cluster(from_relative(x)).sum(), x)
    virial = (x * gradient).sum((1, 2)).detach()
    error = virial.std() / len(virial) ** 0.5
    assert abs(virial.mean() - reference.event_shape.numel() * reference.temperature) < 5 * error
    distances = reference.observables["pair distance"](from_relative(x)).detach()
    each = distances.std(0) / len(distances) ** 0.5
    assert (distances.mean(0) - distances.mean()).abs().max() < 5 * each.max()


def test_the_density_is_the_energy_over_the_temperature(generator):
    x = torch.randn(5, 3, 2, generator=generator)
    reference = Boltzmann(double_well(), 4.0, x)
    expected = -double_well()(from_relative(x.double())) / 4
    torch.testing.assert_close(reference.log_density(x), expected)


def test_samples_are_different_rows_of_it(generator):
    reference = Boltzmann(double_well(), 1.0, torch.arange(60.0).reshape(10, 3, 2))
    drawn = reference.sample(10, generator=generator)
    assert sorted(drawn[:, 0, 0].tolist()) == reference.samples[:, 0, 0].tolist()
    assert reference.event_shape == (3, 2) and len(reference) == 10
    with pytest.raises(ValueError, match="asked for 11 samples of the reference, which has 10"):
        reference.sample(11)


def test_what_is_no_reference_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"relative coordinates \(N, 3, 2\).*got \(5, 4, 2\)"):
        Boltzmann(double_well(), 1.0, torch.zeros(5, 4, 2))
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        Boltzmann(double_well(), 0.0, torch.zeros(5, 3, 2))
    with pytest.raises(ValueError, match="cluster must be one of dw4, lj13, lj55, got 'lj38'"):
        boltzmann("lj38")
    with pytest.raises(ValueError, match="level must be one of cold, hot, got 'warm'"):
        boltzmann("dw4", "warm")
    with pytest.raises(CheckpointError):
        boltzmann("dw4", folder=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("facts", "shape"),
    [
        *(({}, (5, 3, 2)), ({"temperatures": []}, (5, 3, 2)), ({"temperatures": [0]}, (5, 3, 2))),
        *(({"temperatures": ["1"]}, (5, 3, 2)), ({"temperatures": [1.0]}, (5, 4, 2))),
    ],
    ids=str,
)
def test_a_folder_of_something_else_is_refused_by_its_path(facts, shape, tmp_path):
    save_folder(tmp_path / "samples", {"cold": torch.zeros(shape)}, facts)
    with pytest.raises(CheckpointError, match=str(tmp_path / "samples")):
        boltzmann("dw4", folder=tmp_path / "samples")
    with pytest.raises(CheckpointError, match=str(tmp_path / "samples")):
        boltzmann("dw4", "hot", folder=tmp_path / "samples")
