"""Times by decoding error against its closed form, a simulation, and published numbers."""

import pytest
import torch

from alignflow.distillation import DecodingTimes
from alignflow.distillation.decoding_times import decoded_fraction
from alignflow.distillation.times import Times

N = 4001


@pytest.mark.parametrize(
    ("vocabulary", "times"),
    [
        (4, (0.028, 0.553, 0.797)),
        (27, (0.106, 0.669, 0.823)),
        (28, (0.11, 0.67, 0.82)),
        (50257, (0.646, 0.809, 0.870)),
    ],
)
def test_times_at_which_tokens_are_decoded(vocabulary, times):
    decoded = torch.tensor([0.01, 0.5, 0.99])
    found = DecodingTimes(vocabulary).time(decoded)
    digits = 2 if vocabulary == 28 else 3
    assert [round(time, digits) for time in found.tolist()] == list(times)
    torch.testing.assert_close(
        decoded_fraction(found, vocabulary), decoded.double(), rtol=0, atol=1e-6
    )


def test_two_tokens_are_told_apart_by_one_normal():
    """q = P(z - z' < m) = Phi(m / sqrt 2) for V = 2."""
    t = torch.linspace(0, 0.95, 20, dtype=torch.float64)
    expected = 2 * torch.special.ndtr(t / (1 - t) / 2**0.5) - 1
    torch.testing.assert_close(decoded_fraction(t, 2), expected, rtol=0, atol=1e-10)


def test_a_simulation_decodes_as_often(generator):
    n, vocabulary, t = 20_000, 7, 0.6
    x = (1 - t) * torch.randn(n, vocabulary, generator=generator)
    x[:, 0] += t
    right = (x.argmax(1) == 0).double().mean().item()
    expected = (vocabulary * right - 1) / (vocabulary - 1)
    # five standard errors
    found = decoded_fraction(torch.tensor(t), vocabulary).item()
    assert found == pytest.approx(expected, abs=5 * 1.2 * (right * (1 - right) / n) ** 0.5)


def test_the_ends_of_the_path():
    for vocabulary in (2, 28, 50257):
        decoded = decoded_fraction(torch.tensor([0.0, 0.999999]), vocabulary)
        torch.testing.assert_close(decoded, torch.tensor([0.0, 1.0]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("vocabulary", [4, 28, 50257])
def test_diagonal_times_are_stratified_in_tau_and_partly_uniform_in_t(vocabulary, generator):
    times = DecodingTimes(vocabulary, uniform_fraction=0.0)
    offered: Times = times
    assert offered.diagonal(3, generator).shape == (3,)
    t = times.diagonal(N, generator).double()
    assert t.min() >= 0 and t.max() < 1
    strata = (decoded_fraction(t, vocabulary) * N).sort().values
    torch.testing.assert_close(
        strata, torch.arange(N) + 0.5, rtol=0, atol=0.5 + 0.05, check_dtype=False
    )
    mixed = DecodingTimes(vocabulary, uniform_fraction=0.4).diagonal(N, generator)
    early = times.time(torch.tensor(1e-4)).item()
    wanted = 0.4 * early + 0.6 * 1e-4
    assert (mixed < early).double().mean().item() == pytest.approx(wanted, abs=0.04)


def test_pairs_are_ordered_and_some_are_the_whole_path(generator):
    s, t = DecodingTimes(28, boundary=0.25).pairs(N, generator)
    assert (s <= t).all() and s.min() >= 0 and t.max() <= 1
    whole = ((s == 0) & (t == 1)).double().mean().item()
    assert whole == pytest.approx(0.25, abs=0.04)
    assert torch.equal(
        *(DecodingTimes(28).pairs(9, torch.Generator().manual_seed(1))[0] for _ in "ab")
    )


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="vocabulary must be a whole number of at least 2"):
        DecodingTimes(1)
    with pytest.raises(ValueError, match="uniform_fraction"):
        DecodingTimes(28, uniform_fraction=1.5)
