"""A list of strings against enumeration in float64, and what steers and tilts with it."""

import itertools

import pytest
import torch

import alignflow as af
from alignflow.data.vocabulary import Vocabulary
from alignflow.reward_module import reward
from alignflow.simplex import one_hot_states, semigroup_weight
from alignflow.targets import Sequences

WORDS = ["bad", "dab", "add", "cab", "a"]
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 0.0, 0.5])
TIMES = pytest.mark.parametrize("t", [0.0, 0.3, 0.8, 0.95])


@pytest.fixture
def target():
    return Sequences(WORDS, WEIGHTS, chunk=2)


@reward
def letters_d(endpoint):
    return torch.tensor([float(string.count("d")) for string in endpoint])


def states_at(target, t, n, generator):
    noise = torch.randn(n, *target.event_shape, generator=generator, dtype=torch.float64)
    return (1 - t) * noise + t * target.sample(n, generator=generator)


def enumerated(target, x, t):
    """p(string | x_t), (B, N), by the densities of noise about each string."""
    states = one_hot_states(target.data, target.event_shape[1], torch.float64)
    distance = (x[:, None] - t * states).square().flatten(2).sum(2)
    return (target.weights.log() - distance / (2 * (1 - t) ** 2)).softmax(1), states


def test_it_holds_strings_and_their_weights(target):
    assert target.event_shape == (3, 5)  # padding and four letters
    assert target.strings == WORDS
    torch.testing.assert_close(target.weights, WEIGHTS.double() / 6.5)
    assert isinstance(target.vocabulary, Vocabulary)
    assert set(target.decode(target.sample(100, generator=0))) <= {"bad", "dab", "add", "a"}


@TIMES
def test_denoiser_and_velocity_are_those_by_enumeration(target, t, generator):
    x = states_at(target, t, 7, generator)
    posterior, states = enumerated(target, x, t)
    mean = torch.einsum("bn,nlv->blv", posterior, states)
    torch.testing.assert_close(target.denoiser(x, t), mean, rtol=0, atol=1e-10)
    velocity = (mean - x) / (1 - t)
    torch.testing.assert_close(target.velocity(x, t), velocity, rtol=0, atol=1e-8)


@TIMES
def test_the_posterior_is_a_softmax_of_one_product_with_the_list(target, t, generator):
    """The formula of the module: t / (1-t)^2 times the sum of what stands at the tokens."""
    x = states_at(target, t, 7, generator)
    read = torch.stack([x[:, range(3), tokens].sum(1) for tokens in target.data], 1)
    posterior = (target.weights.log() + t / (1 - t) ** 2 * read).softmax(1)
    number = torch.eye(len(WORDS), dtype=torch.float64)
    found = target.posterior_mean(x, t, number)
    torch.testing.assert_close(found, posterior, rtol=0, atol=1e-10)
    torch.testing.assert_close(found, enumerated(target, x, t)[0], rtol=0, atol=1e-10)


def test_posterior_draws_have_the_posterior_s_frequencies(target, generator):
    n, t = 20_000, 0.4
    x = states_at(target, t, 3, generator)
    drawn = target.posterior_sample(x, t, n, generator)
    wanted = torch.einsum("bn,nlv->blv", *enumerated(target, x, t))
    # five standard errors of n draws
    torch.testing.assert_close(drawn.mean(1), wanted, rtol=0, atol=5 * (0.25 / n) ** 0.5)


def test_samples_have_the_weights_within_the_floor_of_total_variation(target, generator):
    n = 20_000
    found = target.total_variation(target.sample(n, generator=generator))
    # its mean is below half the sum of the standard errors
    assert found < (target.weights * (1 - target.weights) / n).sqrt().sum()
    wrong = torch.zeros(10, 3, 5)
    assert target.total_variation(wrong) == pytest.approx(1)


@TIMES
def test_the_tilt_is_the_list_reweighted(target, t, generator):
    counts = torch.tensor([1.0, 1, 2, 0, 0], dtype=torch.float64)
    tilted = target.tilted(letters_d, 1.3)
    wanted = WEIGHTS.double() * (1.3 * counts).exp()
    torch.testing.assert_close(tilted.weights, wanted / wanted.sum())
    again = target.tilted(af.Tilt(letters_d, 1.3)).tilted(letters_d, -1.3)
    torch.testing.assert_close(again.weights, target.weights)
    x = states_at(target, t, 7, generator)
    posterior, states = enumerated(target, x, t)
    value = (posterior * (1.3 * counts).exp()).sum(1).log()
    torch.testing.assert_close(target.value(x, t, letters_d, 1.3), value, rtol=0, atol=1e-9)
    weighted = posterior * (1.3 * counts).exp()
    mean = torch.einsum("bn,nlv->blv", weighted / weighted.sum(1, keepdim=True), states)
    torch.testing.assert_close(tilted.denoiser(x, t), mean, rtol=0, atol=1e-10)
    gradient = target.value_gradient(x, t, letters_d, 1.3)
    moved = (mean - target.denoiser(x, t)) * t / (1 - t) ** 2
    torch.testing.assert_close(gradient, moved, rtol=0, atol=1e-7)


def test_one_jump_of_the_map_draws_the_list_and_jumps_compose(generator):
    target = Sequences(["New York", "San Diego"])
    noise = target.noise(500, generator)
    strings = target.decode(target.flow_map(noise, 0.0, 1.0))
    assert set(strings) == {"New York", "San Diego"}
    assert strings.count("New York") == pytest.approx(250, abs=5 * 500**0.5 / 2)
    x, (s, u, t) = noise[:20].double(), (0.1, 0.5, 0.8)
    whole = target.flow_map(x, s, t)
    first = target.flow_map(x, s, u)
    torch.testing.assert_close(target.flow_map(first, u, t), whole, rtol=0, atol=1e-6)

    def delta(start, end, s, t):
        return ((1 - s) * end - (1 - t) * start) / (t - s)

    gamma = semigroup_weight(*(torch.tensor([time]) for time in (s, u, t)))
    second = delta(first, whole, u, t)
    through = gamma * delta(x, first, s, u) + (1 - gamma) * second
    torch.testing.assert_close(through, delta(x, whole, s, t), rtol=0, atol=1e-6)
    assert delta(x, whole, s, t).min() > -1e-6
    back = target.flow_map(whole, t, s)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        target.flow_map(x, 0.9995, 1.0), x.lerp(target.denoiser(x, 0.9995), 1.0)
    )


def test_tokens_stand_for_themselves_where_only_their_number_is_known(generator):
    tokens = torch.tensor(list(itertools.product(range(3), repeat=2)))
    weights = torch.rand(9, generator=generator)
    target = Sequences(tokens, weights, vocabulary=3)
    assert torch.equal(target.strings, tokens)
    n = 5000
    drawn = target.decode(target.sample(n, generator=generator))
    found = (drawn[:, 0] * 3 + drawn[:, 1]).bincount(minlength=9) / n
    torch.testing.assert_close(found.double(), target.weights, rtol=0, atol=0.03)
    tilted = target.tilted(reward(lambda endpoint: endpoint.sum(1).float()), 1.0)
    wanted = weights.double() * tokens.sum(1).double().exp()
    torch.testing.assert_close(tilted.weights, wanted / wanted.sum())


@TIMES
@pytest.mark.parametrize(("length", "vocabulary"), [(1, 5), (2, 4), (3, 3)])
def test_a_random_table_is_that_by_enumeration(length, vocabulary, t, generator):
    target = Sequences.random(length, vocabulary, seed=3, std=1.5)
    strings = torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))
    assert torch.equal(target.strings, strings)
    x = states_at(target, t, 7, generator)
    wanted = torch.einsum("bn,nlv->blv", *enumerated(target, x, t))
    torch.testing.assert_close(target.denoiser(x, t), wanted, rtol=0, atol=1e-10)


def test_a_random_table_is_of_its_seed_and_uniform_without_logits():
    weights = Sequences.random(2, 3, seed=1).weights
    assert torch.equal(weights, Sequences.random(2, 3, seed=1).weights)
    assert not torch.equal(weights, Sequences.random(2, 3, seed=2).weights)
    letters = Vocabulary(["a", "b"])
    flat = Sequences.random(2, letters, std=0.0)
    assert flat.strings == ["aa", "ab", "ba", "bb"] and flat.weights.tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), "length must be"),
        ((2, 0), "vocabulary must be"),
        ((2, 3, -1), "seed must be"),
        ((2, 3, 0, -1.0), "std must be"),
    ],
)
def test_what_is_no_random_table_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sequences.random(*arguments)


def test_the_exact_steerer_reaches_the_tilt(target, generator):
    n = 1000
    steerer = af.steer(target, letters_d, "exact", strength=1.0, steps=16, draws=32, target=target)
    drawn = steerer.sample(n, generator=generator)["state"]
    tilted = target.tilted(letters_d, 1.0)
    floor = (tilted.weights * (1 - tilted.weights) / n).sqrt().sum()
    assert tilted.total_variation(drawn) < 2 * floor


def test_a_data_set_of_strings_is_a_target_with_its_weights(generator):
    names = af.data.names()
    target = Sequences(names)
    assert target.event_shape == (12, 27) and target.strings[0] == "smith"
    torch.testing.assert_close(target.weights, names.weights)
    x = states_at(target, 0.5, 3, generator)
    wanted = torch.einsum("bn,nlv->blv", *enumerated(target, x, 0.5))
    torch.testing.assert_close(target.denoiser(x, 0.5), wanted, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="has its own weights"):
        Sequences(names, names.weights)


def test_it_moves_between_precisions_and_is_copied(target):
    import copy

    moved = copy.deepcopy(target).double()
    assert moved.strings == WORDS and moved.data.dtype == torch.int64
    torch.testing.assert_close(moved.weights, target.weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "a vocabulary needs a symbol"),
        ((["a", ""],), "string 1 is empty"),
        ((["ab"], None, Vocabulary(["<pad>", "a"])), "holds 'b' at position 1"),
        ((torch.tensor([[0, 3]]), None, 3), "from 0 to 2"),
        ((torch.tensor([[0, 3]]),), "tokens need a vocabulary"),
        ((["a"], None, 3), "strings must be"),
        ((WORDS, torch.ones(3)), "weights must be 5 numbers"),
        ((WORDS, -WEIGHTS), "weights must be 5 numbers"),
        ((WORDS, 0 * WEIGHTS), "-inf for every row"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sequences(*arguments)


def test_a_condition_that_fixes_no_tokens_is_refused(target):
    with pytest.raises(ValueError, match=r"tokens must be whole numbers \(N, 3\), -1 where"):
        target.sample(3, condition=1)


def conditional(target, x, t, rows):
    """p(string | x_t) among the strings that agree with each row, by enumeration."""
    posterior, states = enumerated(target, x, t)
    agree = ((rows[:, None] < 0) | (rows[:, None] == target.data)).all(2)
    posterior = posterior * agree
    return posterior / posterior.sum(1, keepdim=True), states


@pytest.fixture
def rows(target):
    return target.vocabulary.template(["_a_", "*b", "*"], 3)


@TIMES
def test_a_condition_leaves_the_strings_that_agree_with_it(target, rows, t, generator):
    x = states_at(target, t, 3, generator).requires_grad_()
    posterior, states = conditional(target, x, t, rows)
    mean = torch.einsum("bn,nlv->blv", posterior, states)
    torch.testing.assert_close(target.denoiser(x, t, rows), mean, rtol=0, atol=1e-10)
    velocity = (mean - x) / (1 - t)
    torch.testing.assert_close(target.velocity(x, t, rows), velocity, rtol=0, atol=1e-8)
    number = torch.eye(len(WORDS), dtype=torch.float64)
    found = target.posterior_mean(x, t, number, rows)
    torch.testing.assert_close(found, posterior, rtol=0, atol=1e-10)
    # its gradient in the state, and that of no string that is left out
    (ours,) = torch.autograd.grad(target.denoiser(x, t, rows).square().sum(), x)
    (theirs,) = torch.autograd.grad(mean.square().sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


def test_conditional_draws_have_the_conditional_weights(target, rows, generator):
    n = 3000
    condition = rows.repeat_interleave(n, 0)
    drawn = target.sample(3 * n, condition=condition, generator=generator)
    for row, part in zip(rows, drawn.split(n), strict=True):
        given = target.given(row)
        assert torch.equal(part.argmax(-1)[:, row >= 0], row[row >= 0].expand(n, -1))
        floor = (given.weights * (1 - given.weights) / n).sqrt().sum()
        assert given.total_variation(part) < floor + 1e-9
    x = states_at(target, 0.4, 3, generator)
    drawn = target.posterior_sample(x, 0.4, n, generator, rows)
    wanted = torch.einsum("bn,nlv->blv", *conditional(target, x, 0.4, rows))
    torch.testing.assert_close(drawn.mean(1), wanted, rtol=0, atol=5 * (0.25 / n) ** 0.5)


def test_the_conditional_flow_ends_in_strings_that_agree(target, rows, generator):
    n = 200
    noise = target.noise(3 * n, generator)
    ends = target.flow_map(noise, 0.0, 1.0, rows.repeat_interleave(n, 0))
    for row, part in zip(rows, ends.split(n), strict=True):
        assert torch.equal(part.argmax(-1)[:, row >= 0], row[row >= 0].expand(n, -1))
        given = target.given(row)
        floor = (given.weights * (1 - given.weights) / n).sqrt().sum()
        assert given.total_variation(part) < 2 * floor + 1e-9
        alone = given.flow_map(noise[:5], 0.0, 0.8)
        with_row = target.flow_map(noise[:5], 0.0, 0.8, row[None])
        torch.testing.assert_close(with_row, alone, rtol=0, atol=1e-4)


def test_conditioning_and_tilting_commute(target, rows, generator):
    tilted = target.tilted(letters_d, 1.3).given(rows[0])
    torch.testing.assert_close(tilted.weights, target.given(rows[0]).tilted(letters_d, 1.3).weights)
    n = 3000
    drawn = target.tilted(letters_d, 1.3).sample(n, condition=rows[:1], generator=generator)
    assert tilted.total_variation(drawn) < (tilted.weights * (1 - tilted.weights) / n).sqrt().sum()


@pytest.mark.parametrize("method", ["exact", "importance"])
def test_steerers_reach_the_exact_conditional_tilt(target, rows, method, generator):
    n = 600
    options = {"draws": 16, "target": target} if method == "exact" else {"particles": 32}
    steerer = af.steer(target, letters_d, method, strength=1.0, steps=8, **options)
    drawn = steerer.sample(n, condition=rows[:1], generator=generator)["state"]
    tilted = target.tilted(letters_d, 1.0).given(rows[0])
    floor = (tilted.weights * (1 - tilted.weights) / n).sqrt().sum()
    assert tilted.total_variation(drawn) < 2 * floor


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (torch.tensor([[5, -1, -1]]), "below 5, got some from -1 to 5"),
        (torch.tensor([[-2, -1, -1]]), "below 5, got some from -2 to -1"),
        (torch.tensor([[-1.0, 1.0, -1.0]]), "-1 where free, got torch.float32"),
        (torch.tensor([[1, -1]]), r"\(N, 3\), -1 where free, got Tensor of shape \(4, 2\)"),
        ("ba*", "a vocabulary's template writes them"),
        (torch.tensor([[2, 2, 2]]), "no stored row with a weight is left by the condition"),
        # a string without a weight
        (torch.tensor([[3, 1, 2]]), "no stored row with a weight is left by the condition"),
    ],
)
def test_conditions_that_no_string_can_have_are_refused(target, condition, message):
    with pytest.raises(ValueError, match=message):
        target.sample(4, condition=condition)
    with pytest.raises(ValueError, match=message):
        target.denoiser(target.noise(4, 0), 0.3, condition)


def test_a_row_that_no_string_agrees_with_is_refused(target):
    with pytest.raises(ValueError, match="no string with a weight agrees with the condition"):
        target.given([2, 2, 2])


def test_draws_may_be_texts(target):
    texts = target.decode(target.sample(500, generator=0))
    assert torch.equal(
        target.total_variation(texts), target.total_variation(target.sample(500, generator=0))
    )
