"""Token count: golden values, gradient, soundness, refusals."""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.rewards import Letters, TokenCount

VOCABULARY = af.Vocabulary(["<pad>", "a", "b", "Cl"])


def test_on_one_hot_states_it_counts():
    states = VOCABULARY.one_hot(VOCABULARY.encode(["abCl", "bb", "a"], 4), torch.float64)
    assert TokenCount(VOCABULARY, ["b", "Cl"])(states).tolist() == [2, 2, 0]
    assert TokenCount(VOCABULARY, "ab").score(states, decode=VOCABULARY).tolist() == [2, 2, 1]


def test_it_agrees_with_the_fraction_of_letters_of_names():
    names = af.data.names()
    count = TokenCount(names.vocabulary, "aeiou")(names.states())
    length = torch.tensor([len(string) for string in names.strings])
    torch.testing.assert_close(count / length, Letters("aeiou")(names.strings))


def test_its_gradient_is_right(generator):
    states = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TokenCount(VOCABULARY, ["b", "Cl"]), states)


class Still(nn.Module):
    """The velocity that takes every state to 0."""

    def forward(self, x, s, t):
        return -x


def test_it_is_sound():
    policy = af.FlowMapPolicy(Still(), (5, 4), decode=VOCABULARY)
    report = af.check_reward(TokenCount(VOCABULARY, "a", name="many"), policy)
    assert report.ok and report.differentiable and report.name == "many", str(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((VOCABULARY, ["cl"]), "each symbol must be one of <pad>, a, b, Cl, got 'cl'"),
        ((VOCABULARY, 3), "symbols must be some of a vocabulary, got 3"),
        (("ab", "a"), "vocabulary must be a Vocabulary, got 'ab'"),
    ],
)
def test_what_is_no_symbol_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenCount(*arguments)


def test_states_of_another_vocabulary_are_refused():
    with pytest.raises(af.RewardError, match=r"takes states \(N, L, 4\) of its vocabulary"):
        TokenCount(VOCABULARY, "a")(torch.zeros(2, 5, 3))
