"""Samplers against closed forms: exact lists of strings in the place of a network."""

import pytest
import torch

import alignflow as af
from alignflow.samplers import DenoiserODE, TokenDraws
from alignflow.targets import Sequences

N = 4000
LETTERS = Sequences(["a", "b", "c", "d"], [1.0, 2.0, 3.0, 4.0])
# two positions, independent and not
PRODUCT = Sequences(["aa", "ab", "ba", "bb"], [0.12, 0.28, 0.18, 0.42])
PAIRS = Sequences(["aa", "bb"], [0.3, 0.7])
WORDS = Sequences(["bad", "dab", "add", "cab", "ace"], [1.0, 2.0, 3.0, 1.0, 0.5])


def floor(target, n=N):
    """Above the mean of total variation of n exact draws."""
    return (target.weights * (1 - target.weights) / n).sqrt().sum()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("noise", ["fresh", "memoryless"])
@pytest.mark.parametrize("target", [LETTERS, PRODUCT], ids=["one position", "independent"])
def test_drawn_tokens_have_the_weights_where_the_posterior_factorizes(
    target, noise, steps, generator
):
    drawn = target.sample(N, steps, sampler=TokenDraws(noise=noise), generator=generator)
    assert ((drawn == 0) | (drawn == 1)).all() and (drawn.sum(-1) == 1).all()
    assert target.total_variation(drawn) < floor(target)


def test_drawn_tokens_forget_how_positions_go_together(generator):
    """In one step all four pairs are drawn: .3 .7 + .7 .3 of them are none of the list."""
    drawn = PAIRS.sample(N, 1, sampler=TokenDraws(), generator=generator)
    assert PAIRS.total_variation(drawn).item() == pytest.approx(0.42, abs=0.04)
    # with noise of DDPM many steps are its SDE, and so exact
    found = [
        PAIRS.total_variation(
            PAIRS.sample(N, steps, sampler=TokenDraws(noise="memoryless"), generator=generator)
        )
        for steps in (2, 8, 64)
    ]
    assert found[0] > 0.1 > found[1] > found[2] and found[2] < floor(PAIRS)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_temperature_is_that_of_each_draw(temperature, generator):
    sampler = TokenDraws(temperature)
    drawn = LETTERS.sample(N, 1, sampler=sampler, generator=generator)
    wanted = LETTERS.weights ** (1 / temperature)
    tempered = Sequences(LETTERS.strings, wanted)
    assert tempered.total_variation(drawn) < floor(tempered)


def test_the_ode_is_of_second_order_and_ends_in_the_list(generator):
    noise = WORDS.noise(50, generator).double()
    exact = WORDS.flow_map(noise, 0.0, 0.9)
    errors = []
    for steps in (8, 16, 32):
        x, grid = noise, torch.linspace(0, 0.9, steps + 1).tolist()
        for s, t in zip(grid[:-1], grid[1:], strict=True):
            x = DenoiserODE().step(WORDS, x, s, t)
        errors.append((x - exact).abs().mean().item())
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3


@pytest.mark.parametrize("target", [LETTERS, PAIRS, WORDS], ids=["letters", "pairs", "words"])
def test_the_ode_draws_the_weights(target, generator):
    drawn = target.sample(N, 8, sampler=DenoiserODE(), generator=generator)
    torch.testing.assert_close(drawn.sum(-1), torch.ones(N, len(target.data[0])))
    # what 8 steps leave is below a floor
    assert target.total_variation(drawn) < 2 * floor(target)


def test_a_step_of_the_ode_is_exact_for_a_constant_denoiser(generator):
    one = Sequences(["ab"], vocabulary=PAIRS.vocabulary)
    x = one.noise(3, generator)
    moved = DenoiserODE().step(one, x, 0.2, 0.7)
    torch.testing.assert_close(moved, one.flow_map(x, 0.2, 0.7), rtol=0, atol=1e-5)


def test_a_grid_and_a_seed_serve_a_sampler_as_they_serve_the_map():
    options = {"grid": [0.0, 0.5, 0.8, 1.0], "sampler": TokenDraws()}
    drawn = [WORDS.sample(9, generator=0, **options) for _ in "ab"]
    assert torch.equal(*drawn)
    with pytest.raises(ValueError, match="a grid must increase"):
        WORDS.sample(9, grid=[0.0, 0.8, 0.5, 1.0], sampler=TokenDraws())


def test_a_policy_is_sampled_by_a_sampler_and_guided(generator):
    """The network: exact logits of the words that start with the condition's letter."""

    class Exact(torch.nn.Module):
        def forward(self, x, s, t, condition=None):
            # one time for all rows
            return WORDS.denoiser(x, s, condition).clamp(min=1e-12).log()

    policy = af.FlowMapPolicy(
        Exact(), WORDS.event_shape, parametrization="simplex", decode=WORDS.vocabulary
    )
    starts_with_d = WORDS.vocabulary.template("d*", 3)
    for sampler in (TokenDraws(), DenoiserODE()):
        drawn = policy.sample(
            50, 8, starts_with_d, guidance=1.5, sampler=sampler, generator=generator
        )
        assert set(policy.decode(drawn)) == {"dab"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenDraws(0.0), "temperature must be a positive number, got 0.0"),
        (lambda: TokenDraws(-1.0), "temperature must be a positive number, got -1.0"),
        (lambda: TokenDraws(float("nan")), "temperature must be a positive number, got nan"),
        (lambda: TokenDraws(noise="pink"), "noise must be one of fresh, memoryless"),
        (lambda: WORDS.sample(2, sampler="ode"), "sampler must be what steps from a time"),
        (lambda: WORDS.sample(2, sampler=TokenDraws), "give an instance of it"),
        (
            lambda: af.targets.ring().sample(2, sampler=TokenDraws(), generator=0),
            r"floats of positions and tokens, \(N, L, V\), got torch.float32 of shape \(2, 2\)",
        ),
    ],
)
def test_what_cannot_be_sampled_by_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_temperature_near_0_draws_the_likeliest(generator):
    drawn = WORDS.sample(20, 6, sampler=TokenDraws(1e-300), generator=generator)
    assert set(WORDS.decode(drawn)) <= set(WORDS.strings)
