"""Baselines of strings: exact likelihoods, a cache that changes nothing, bounds that hold."""

import itertools
import json
import sys

import numpy as np
import pytest
import torch
from autoregressive import Autoregressive
from masked import ORDERS
from models import KINDS, facts, load, save
from torch.nn.functional import one_hot
from train import Budget, factor, main, nats, train

from alignflow.data import Strings, Vocabulary

L, V = 3, 4
MODEL = {"width": 16, "depth": 2, "heads": 2}


def random_model(kind, length=L, vocabulary=V):
    """One whose layers are not zero at the start, in float64."""
    torch.manual_seed(0)
    model = KINDS[kind](length, vocabulary, **MODEL).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def all_rows(length=L, vocabulary=V):
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))


def strings_of(rows):
    """Rows whose padding is at their end: the strings."""
    ended = (rows == 0).cumsum(1) > 0
    return rows[((rows == 0) == ended).all(1)]


def test_probabilities_of_all_strings_sum_to_one():
    model = random_model("autoregressive")
    assert model.log_prob(strings_of(all_rows())).exp().sum().item() == pytest.approx(1, abs=1e-10)


def test_what_comes_after_the_first_padding_counts_nothing():
    model = random_model("autoregressive")
    first, second = model.log_prob(torch.tensor([[2, 0, 0], [2, 0, 3]]))
    assert first == second


def test_logits_depend_on_earlier_tokens_alone():
    model, rows = random_model("autoregressive"), torch.tensor([[4, 1, 2], [4, 1, 3]])
    first, second = model(rows)
    torch.testing.assert_close(first[:2], second[:2], rtol=0, atol=1e-12)
    assert not torch.allclose(first[2], second[2])


def test_the_cache_gives_the_logits_of_the_whole_row():
    model = random_model("autoregressive", 7, 5)
    rows = torch.randint(0, 5, (63, 7), generator=torch.Generator().manual_seed(0))
    cache = model.empty_cache(len(rows))
    steps = [model.step(rows[:, [i]], torch.tensor([i]), cache) for i in range(7)]
    torch.testing.assert_close(torch.cat(steps, 1), model(rows), rtol=0, atol=1e-12)


def test_sampled_frequencies_are_the_probabilities(generator):
    model, n = random_model("autoregressive"), 20_000
    rows = strings_of(all_rows())
    drawn = model.sample(n, generator)
    assert strings_of(drawn).equal(drawn)
    found = (drawn[:, None] == rows).all(-1).double().mean(0)
    exact = model.log_prob(rows).exp()
    # five standard errors
    assert ((found - exact).abs() < 5 * (exact * (1 - exact) / n).sqrt() + 1e-4).all()


def test_a_low_temperature_draws_the_likeliest_tokens(generator):
    model = random_model("autoregressive")
    assert len(model.sample(100, generator, temperature=1e-4).unique(dim=0)) == 1


def masked_nats(model, rows, places):
    """-log p (N, L) of tokens of rows of which these places are masked."""
    masked = torch.tensor([place in places for place in range(L)])
    log_prob = model(rows.masked_fill(masked, V)).log_softmax(-1)
    return -(log_prob * one_hot(rows, V)).sum(-1)


def masked_bound(model, rows):
    """The integral over t of the weighted cross-entropy, of all sets of masked tokens."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    bound = torch.zeros(len(rows), dtype=torch.float64)
    for k in range(1, L + 1):
        # the probability of a set of k, over that of one token; a polynomial in t
        masking = (1 - nodes) / 2
        weight = (weights / 2 * masking ** (k - 1) * (1 - masking) ** (L - k)).sum()
        for places in itertools.combinations(range(L), k):
            bound += weight * masked_nats(model, rows, places)[:, list(places)].sum(1)
    return bound


@torch.no_grad()
def test_masked_loss_has_the_mean_of_the_bound(generator):
    model, row, n = random_model("masked"), torch.tensor([[2, 1, 0]]), 40_000
    drawn = model.loss(row.expand(n, -1), generator)
    error = drawn.std() / n**0.5
    assert abs(drawn.mean() - masked_bound(model, row)) < 5 * error < 0.1


@torch.no_grad()
def test_tokens_drawn_one_by_one_have_a_likelihood_within_the_bound(generator):
    model, rows, n = random_model("masked"), all_rows(), 20_000
    exact = torch.zeros(len(rows), dtype=torch.float64)
    for order in itertools.permutations(range(L)):
        nats = [masked_nats(model, rows, order[i:])[:, order[i]] for i in range(L)]
        exact += (-sum(nats)).exp() / 6
    assert exact.sum().item() == pytest.approx(1, abs=1e-10)
    assert (-exact.log() < masked_bound(model, rows)).all()
    found = (model.sample(n, L, generator)[:, None] == rows).all(-1).double().mean(0)
    assert ((found - exact).abs() < 5 * (exact * (1 - exact) / n).sqrt()).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("steps", [1, 2, L])
def test_a_masked_model_unmasks_all_tokens_in_so_many_calls(order, steps, generator):
    model, calls = random_model("masked"), []
    model.register_forward_hook(lambda *_: calls.append(1))
    drawn = model.sample(63, steps, generator, order=order)
    assert len(calls) == steps and drawn.shape == (63, L)
    assert drawn.min() >= 0 and drawn.max() < V


def test_one_step_of_a_masked_model_draws_each_token_alone(generator):
    model, n = random_model("masked"), 20_000
    exact = model(torch.full((1, L), V)).softmax(-1)[0]
    found = one_hot(model.sample(n, 1, generator), V).double().mean(0)
    assert ((found - exact).abs() < 5 * (exact * (1 - exact) / n).sqrt()).all()
    # positions differ although all inputs are the same
    assert (exact[0] - exact[1]).abs().max() > 0.01


@pytest.mark.parametrize(("steps", "order"), [(0, "random"), (L + 1, "random"), (1, "left")])
def test_a_masked_model_refuses_what_it_cannot_do(steps, order):
    with pytest.raises(ValueError, match="steps must be from 1 to 3 and order one of"):
        random_model("masked").sample(1, steps, order=order)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="got width=10, heads=2"):
        Autoregressive(L, V, width=10, depth=1, heads=2)


@pytest.mark.parametrize("kind", KINDS)
def test_training_reaches_the_entropy_of_a_list(kind):
    torch.manual_seed(0)
    strings = Strings.of(["ab", "ba", "aa", "b"], [0.4, 0.3, 0.2, 0.1], length=3)
    model = KINDS[kind](*strings.event_shape, **MODEL)
    *_, (step, average, _) = train(model, strings, Budget(None, 150), 128, 1e-2)
    found = nats(average, strings, 200 if kind == "masked" else 1)
    assert step == 150
    # a bound on the list's entropy, and near it
    assert strings.entropy - 0.03 < found < strings.entropy + 0.1


def test_a_learning_rate_rises_and_falls_to_zero():
    rates = [factor(fraction) for fraction in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert rates[:3] == [0.0, 0.5, 1.0] and rates[2] > rates[3] > rates[4] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_the_model_and_how_it_came_about(kind, tmp_path):
    model = random_model(kind)
    save(model, tmp_path / "some" / "model.safetensors", {"seed": 3})
    loaded = load(tmp_path / "some" / "model.safetensors")
    assert [p.name for p in (tmp_path / "some").iterdir()] == ["model.safetensors"]
    assert facts(tmp_path / "some" / "model.safetensors") == {"seed": 3}
    rows = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(loaded(rows), model(rows).float(), rtol=0, atol=1e-2)


@pytest.mark.parametrize(("kind", "optimizer"), [("autoregressive", "adamw"), ("masked", "muon")])
def test_the_script_trains_and_tells_its_loss(kind, optimizer, tmp_path, monkeypatch, capsys):
    options = "--steps 3 --width 16 --depth 1 --heads 2 --batch 32".split()
    command = ["train.py", kind, "names", *options, "--optimizer", optimizer]
    monkeypatch.setattr(sys, "argv", [*command, "--folder", str(tmp_path)])
    main()
    *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    path = tmp_path / f"names_{kind}.safetensors"
    assert last["step"] == 3 and 6.3 < last["nats"] < 41
    assert load(path).length == 12
    assert facts(path)["data"] == "names" and facts(path)["parameters"] > 0


def test_seconds_end_a_training():
    strings = Strings.of(["ab", "ba"], vocabulary=Vocabulary(["<pad>", "a", "b"]))
    model = Autoregressive(*strings.event_shape, **MODEL)
    budget = Budget(0.5, None)
    steps = list(train(model, strings, budget, 8, 1e-3))
    assert len(steps) > 1 and 0.5 <= budget.elapsed < 5
