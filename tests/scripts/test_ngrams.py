"""n-grams: counted by hand, and a distribution over strings."""

import itertools

import pytest
import torch
from ngrams import Ngrams


def test_one_token_is_told_by_its_frequency():
    model = Ngrams(torch.tensor([[1, 1, 0], [2, 0, 0]]), 4, 1)
    # of 5 tokens, ends among them, 3 kinds
    p = {k: (c + 3 / 4) / 8 for k, c in enumerate([2, 2, 1, 0])}
    found = model.nats(torch.tensor([[1, 2, 0], [3, 1, 1]])).exp().tolist()
    assert found == pytest.approx([1 / (p[1] * p[2] * p[0]), 1 / (p[3] * p[1] * p[1] * p[0])])


def test_what_came_before_is_counted_and_unseen_pairs_back_off():
    rows = torch.tensor([[1, 2], [1, 2], [1, 1]])
    one, two = Ngrams(rows, 3, 1), Ngrams(rows, 3, 2)
    # 1 comes first and then 2, 2 and 1; the last 1 ends
    alone = {k: (c + 3 / 3) / 12 for k, c in enumerate([3, 4, 2])}
    begin = (3 + alone[1]) / 4
    after = {0: (1 + 3 * alone[0]) / 7, 2: (2 + 3 * alone[2]) / 7}
    end = (2 + alone[0]) / 3
    assert one.nats(rows[:1]).exp().item() == pytest.approx(1 / (alone[1] * alone[2] * alone[0]))
    assert two.nats(rows[:1]).exp().item() == pytest.approx(1 / (begin * after[2] * end))
    never = two.nats(torch.tensor([[2, 0]])).exp().item()
    assert never == pytest.approx(1 / (alone[2] / 4 * end))


def test_the_probabilities_of_all_strings_sum_to_one(generator):
    rows = torch.randint(0, 3, (50, 4), generator=generator).sort(1, descending=True).values
    model = Ngrams(rows, 3, 3)
    sums = []
    for longest in (3, 6, 12):
        every = [
            [*string, *[0] * (longest - n)]
            for n in range(longest + 1)
            for string in itertools.product((1, 2), repeat=n)
        ]
        sums.append(model.nats(torch.tensor(every)).neg().exp().sum().item())
    assert sums == sorted(sums) and sums[-1] == pytest.approx(1.0, abs=0.01)
    assert sums[-1] <= 1 + 1e-9
