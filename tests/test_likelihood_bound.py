"""The bound of a list's exact denoiser is its entropy; one of a worse denoiser lies above."""

import math

import pytest
import torch

from alignflow.data import Strings, names
from alignflow.flow_map import Wrapped
from alignflow.likelihood_bound import _density, _ratios, likelihood_bound
from alignflow.metrics import mean
from alignflow.policies import FlowMapPolicy, TokenDiT
from alignflow.targets import Sequences, mixture


def bound(model, strings, n, **options):
    """Over n strings drawn by weight: its mean, with -log p as control variate."""
    rows = strings.draw(n, 0)
    found = likelihood_bound(model, strings.tokens[rows], generator=1, **options)
    assert found.shape == (n,) and found.dtype == torch.float64
    return mean(found + strings.weights[rows].log() + strings.entropy)


@pytest.mark.parametrize(
    "strings",
    [
        Strings.of(["new york", "san diego"], [0.5, 0.5]),
        Strings.of(["ab", "ba", "aa", "b"], [0.4, 0.3, 0.2, 0.1]),
        # two independent tokens
        Strings.of(
            [a + b for a in "abc" for b in "abc"], [x * y for x in (1, 2, 5) for y in (2, 1, 1)]
        ),
        names(),
    ],
    ids=["cities", "letters", "independent", "names"],
)
def test_the_bound_of_the_exact_denoiser_is_the_entropy(strings):
    found = bound(Sequences(strings).double(), strings, 2_000, draws=4)
    assert abs(found.value - strings.entropy) < 5 * found.standard_error < 0.5


def test_single_precision_gives_the_same():
    strings = Strings.of(["ab", "ba", "aa", "b"], [0.4, 0.3, 0.2, 0.1])
    single, double = (
        bound(Sequences(strings).to(d), strings, 500) for d in (torch.float32, torch.float64)
    )
    assert single.value == pytest.approx(double.value, abs=0.3)


def test_an_early_end_leaves_the_tokens_to_be_drawn_alone():
    """At time 0 the bound is the entropy of independent tokens."""
    strings = Strings.of(["ab", "ba"], [0.5, 0.5])
    found = bound(Sequences(strings).double(), strings, 1_000, t_max=1e-4)
    assert found.value == pytest.approx(2 * math.log(2), abs=1e-3)


class Vague(Wrapped):
    """A denoiser half of which is uniform."""

    def denoiser(self, x, t, condition=None):
        return (self.model.denoiser(x, t, condition) + 1 / x.shape[-1]) / 2


def test_a_worse_denoiser_has_a_larger_bound():
    strings = Strings.of(["ab", "ba", "aa", "b"], [0.4, 0.3, 0.2, 0.1])
    found = bound(Vague(Sequences(strings).double()), strings, 1_000)
    assert found.value - 5 * found.standard_error > strings.entropy


def test_an_untrained_network_is_above_the_entropy_of_its_prior():
    torch.manual_seed(0)
    strings = names()
    network = TokenDiT(*strings.event_shape, width=16, depth=1, heads=2)
    network.set_prior(strings.tokens, strings.weights)
    policy = FlowMapPolicy(network, strings.event_shape, parametrization="simplex")
    found = bound(policy, strings, 500, draws=4)
    # it knows the frequencies of tokens at each position and the state: their entropies' sum
    rates = (strings.weights[:, None, None] * strings.states()).sum(0)
    alone = torch.special.entr(rates).sum().item()
    assert abs(found.value - alone) < 5 * found.standard_error < 4


def test_times_are_of_their_density(generator):
    grid, density = _density(27, 0.9)
    assert (density * grid.diff()).sum().item() == pytest.approx(1)
    ratio, weight = _ratios(100_000, grid, density, generator)
    assert ratio.min() >= 0 and ratio.max() <= 9
    # the integrals of g dg and of 2 g^2 dg
    assert weight.mean().item() == pytest.approx(9**2 / 2, rel=0.02)
    assert (ratio[weight > 0] < 1).double().mean().item() == pytest.approx(
        (density * grid.diff())[grid[1:] <= 1].sum().item(), abs=0.003
    )


@pytest.mark.parametrize("options", [{"draws": 0}, {"t_max": 1.0}, {"t_max": 0.0}])
def test_options_are_checked(options):
    strings = Strings.of(["ab", "ba"])
    with pytest.raises(ValueError, match=next(iter(options))):
        likelihood_bound(Sequences(strings), strings.tokens, **options)


def test_models_and_tokens_must_fit():
    strings = Strings.of(["ab", "ba"])
    with pytest.raises(ValueError, match="from 0 to 2"):
        likelihood_bound(Sequences(strings), strings.tokens + 9)
    with pytest.raises(ValueError, match=r"\(N, L, V\) is needed, got \(2,\)"):
        likelihood_bound(mixture(2), strings.tokens)
