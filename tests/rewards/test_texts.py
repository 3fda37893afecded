"""Rewards of texts: golden values, through a policy, and what is refused."""

import sys

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.rewards import Length, Letters, Pattern, Prefix, Sentiment
from alignflow.rewards.sentiment import _analyzer

NAMES = ["anna", "mcbee", "x", ""]
REWARDS = [
    (Length(), [4, 5, 1, 0]),
    (Letters("aeiou"), [0.5, 0.4, 0, 0]),
    (Letters("aab"), [0.5, 0.2, 0, 0]),
    (Prefix("mc"), [0, 1, 0, 0]),
    (Pattern("n+a$"), [1, 0, 0, 0]),
    (Pattern("^.{1,4}$"), [1, 0, 1, 0]),
]


@pytest.mark.parametrize(("reward", "values"), REWARDS, ids=lambda value: str(value)[:20])
def test_known_values(reward, values):
    torch.testing.assert_close(reward(NAMES), torch.tensor(values, dtype=torch.float32))
    assert not reward.differentiable


def test_sentiment_of_known_sentences():
    pytest.importorskip("vaderSentiment")
    scores = Sentiment()(["this is a great day", "this is horrible", "a chair"])
    torch.testing.assert_close(scores, torch.tensor([0.6249, -0.5423, 0.0]))


def test_names():
    assert [reward.name for reward in (Length(), Letters("a"), Pattern("a"))] == [
        "length",
        "letters",
        "pattern",
    ]
    assert Prefix("mc").name == "prefix_mc" and Letters("aeiou", name="vowels").name == "vowels"


def test_a_reward_of_texts_sees_what_a_policy_decodes():
    vocabulary = af.Vocabulary(["<pad>", "a", "b"])
    policy = af.FlowMapPolicy(nn.Sequential(), (4, 3), decode=vocabulary)
    states = vocabulary.one_hot(vocabulary.encode(["ab", "bbb"], 4), torch.float64)
    rewards = Letters("b").score(states, decode=policy.decode)
    torch.testing.assert_close(rewards, torch.tensor([0.5, 1.0], dtype=torch.float64))
    total = af.Sum({"length": (Length(), 2.0), "start": (Prefix("b"), 1.0)})
    assert total.score(states, decode=policy.decode).tolist() == [4, 7]
    assert total(["ab", "bbb"]).tolist() == [4, 7]


@pytest.mark.parametrize("texts", [torch.zeros(2, 3), ["a", 3], "ab"], ids=str)
def test_what_are_no_texts_is_refused(texts):
    with pytest.raises(af.RewardError, match="it takes a list of texts"):
        Length()(texts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Letters(""), "letters must not be empty"),
        (lambda: Prefix(3), "prefix must be a text, got 3"),
        (lambda: Pattern("(a"), r"pattern must be a regular expression, got '\(a'"),
        (lambda: Pattern(""), "pattern must not be empty"),
    ],
)
def test_what_asks_for_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    _analyzer.cache_clear()
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(ImportError, match=r"pip install 'alignflow\[text\]'"):
        Sentiment()
