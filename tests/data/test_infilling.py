"""Fixed tokens of random places: what they hold, how often, and by a seed."""

import pytest
import torch

import alignflow as af
from alignflow.data import Infilling, Strings
from alignflow.data.infilling import fixed_tokens

DATA = Strings.of(["abcd", "bcda", "dddd"])


def test_fixed_tokens_are_those_of_the_row():
    rows = Infilling(DATA, fraction=1.0).sample(500, generator=0)
    tokens, fixed = rows["data"].argmax(-1), rows["condition"]
    assert torch.equal(fixed[fixed >= 0], tokens[fixed >= 0])
    assert 0 < (fixed >= 0).double().mean() < 1
    again = Infilling(DATA, fraction=1.0).sample(500, generator=0)
    assert torch.equal(again["condition"], fixed)


def test_kinds_come_as_often_as_they_should(generator):
    n, length = 6000, 10
    fixed = fixed_tokens(torch.zeros(n, length).long(), 0.6, generator) >= 0
    some = fixed.any(1)
    # of 60 % of the rows, a beginning or an end of 0 to 10 tokens, or any of them
    beginning = some & (fixed.long().diff(dim=1) <= 0).all(1)
    end = some & (fixed.long().diff(dim=1) >= 0).all(1)
    error = 5 * (0.25 / n) ** 0.5
    assert abs(fixed.double().mean() - 0.3) < error
    assert beginning.double().mean() > 0.2 - error and end.double().mean() > 0.2 - error
    assert 0.6 - 0.1 - error < some.double().mean() < 0.6 + error
    assert not (fixed_tokens(torch.zeros(9, 3).long(), 0.0, generator) >= 0).any()


def test_a_model_of_fixed_tokens_learns_from_it():
    policy = af.policies.text_policy(Infilling(DATA), width=16, depth=1, heads=2)
    trained = af.pretrain(policy, Infilling(DATA), steps=2, batch_size=8)
    fixed = torch.tensor([[3, -1, -1, -1]])
    strings = trained.decode(trained.sample(4, steps=1, condition=fixed, generator=0))
    assert {string[0] for string in strings} == {"c"}


def test_bad_data_are_refused():
    with pytest.raises(ValueError, match="data set of strings"):
        Infilling(["abc"])
    with pytest.raises(ValueError, match="fraction"):
        Infilling(DATA, fraction=1.5)
    with pytest.raises(ValueError, match="network"):
        af.policies.text_policy(DATA, network="rnn")
    with pytest.raises(ValueError, match="data set of strings"):
        af.policies.text_policy(["abc"])
