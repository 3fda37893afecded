"""Vocabularies: strings as tokens and states and back, saved with a policy, and what is refused."""

import copy
import pickle

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.data import BPEVocabulary, SelfiesVocabulary, Vocabulary

ATOMS = ["<pad>", "C", "N", "O", "Cl"]


def test_strings_are_written_by_longest_match_and_padded():
    tokens = af.Vocabulary(ATOMS).encode(["CCl", "OCN"], length=4)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[1, 4, 0, 0], [3, 1, 2, 0]]
    assert af.Vocabulary(ATOMS).encode(["CCl", "OCN"]).shape == (2, 3)
    assert af.Vocabulary(ATOMS).encode([], length=4).shape == (0, 4)


def test_an_end_stands_before_the_padding():
    vocabulary = Vocabulary(["<pad>", "<end>", "a", "b"])
    tokens = vocabulary.encode(["ab", "b"], length=4)
    assert tokens.tolist() == [[2, 3, 1, 0], [3, 1, 0, 0]]
    assert vocabulary.decode(tokens) == ["ab", "b"]
    with pytest.raises(ValueError, match="takes 4 tokens, more than length=3"):
        vocabulary.encode(["aba"], length=3)


def test_a_string_ends_at_the_first_padding():
    vocabulary = Vocabulary(ATOMS)
    assert vocabulary.decode([[1, 4, 0, 2], [0, 1, 1, 1], [4, 4, 4, 4]]) == ["CCl", "", "ClClClCl"]


def test_special_symbols_are_not_written_in_strings():
    with pytest.raises(ValueError, match="holds '<' at position 0"):
        Vocabulary(["<pad>", "p", "a", "d"]).encode(["<pad>"])


@pytest.mark.parametrize("strings", [["New York", "San Diego"], ["ä語😀", "a\nb.*[c"]], ids=str)
def test_what_is_encoded_is_decoded_again(strings):
    vocabulary = Vocabulary.of(strings)
    tokens = vocabulary.encode(strings, 11)
    assert vocabulary.symbols[0] == "<pad>"
    assert vocabulary.decode(tokens) == strings
    assert vocabulary.decode(tokens.to(torch.uint8)) == strings
    assert vocabulary.decode(tokens.tolist()) == strings
    states = vocabulary.one_hot(tokens, torch.float64)
    assert states.shape == (2, 11, vocabulary.size) and states.dtype == torch.float64
    assert vocabulary(states) == vocabulary.decode(states) == strings
    assert vocabulary.encode(vocabulary.decode(tokens), 11).equal(tokens)


def test_many_strings_are_decoded_in_parts():
    vocabulary = Vocabulary(ATOMS)
    tokens = torch.randint(1, 5, (20_001, 3), generator=torch.Generator().manual_seed(0))
    strings = vocabulary.decode(tokens)
    assert strings == ["".join(ATOMS[i] for i in row) for row in tokens.tolist()]
    assert vocabulary.decode(tokens[:0]) == []


def test_soft_tokens_are_the_likeliest_ones():
    soft = torch.tensor([[[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]])
    assert Vocabulary(["<pad>", "a", "b"])(soft) == ["b"]


def test_tokens_are_drawn_by_their_probabilities():
    vocabulary, n = Vocabulary(["<pad>", "a", "b"]), 20_000
    soft = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]]).expand(n, 2, 3)
    for temperature, p in ((1.0, 0.5), (0.5, 0.25 / 0.38), (0.01, 1.0)):
        tokens = vocabulary.draw(soft, temperature, generator=0)
        assert tokens.shape == (n, 2) and (tokens[:, 1] == 1).all()
        # five standard errors of a rate
        error = 5 * (p * (1 - p) / n) ** 0.5 + 1e-9
        assert (tokens[:, 0] == 2).double().mean().item() == pytest.approx(p, abs=error)
    again = vocabulary.draw(soft, generator=0)
    assert again.equal(vocabulary.draw(soft, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        (["C", ""], "string 1 is empty"),
        (["C", 3], "string 1 is no text but 3"),
        ("CC", "strings must be several texts, got 'CC'"),
        (3, "strings must be several texts, got 3"),
        (["CC", "CCXC"], r"string 1 \('CCXC'\) holds 'X' at position 2, .* \(C N O Cl\)$"),
        (["ClnC"], "holds 'n' at position 2, .*; did you mean 'N'?"),
        (["C", "CCCCCC"], r"string 1 \('CCCCCC'\) takes 6 tokens, more than length=5"),
    ],
)
def test_strings_that_it_cannot_write_are_refused(strings, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(ATOMS).encode(strings, length=5)


def test_without_padding_all_strings_are_of_one_length():
    vocabulary = Vocabulary("ab")
    assert vocabulary.decode(vocabulary.encode(["ab", "bb"], 2)) == ["ab", "bb"]
    with pytest.raises(ValueError, match="string 1 .* takes 1 tokens of 2, .* has no padding"):
        vocabulary.encode(["ab", "b"], 2)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 2], [0, 5]], "from 0 to 4, got 5 in row 1 at position 1"),
        ([[-1, 2]], "from 0 to 4, got -1 in row 0 at position 0"),
        ([1, 2], r"whole numbers \(N, L\), or soft tokens \(N, L, 5\), got torch.int64"),
        (torch.zeros(2, 3), r"soft tokens \(N, L, 5\), got torch.float32 of shape \(2, 3\)"),
        (torch.zeros(2, 3, 4), r"soft tokens \(N, L, 5\), got torch.float32 of shape \(2, 3, 4\)"),
        (torch.zeros(2, 0, dtype=int), r"of shape \(2, 0\)"),
        (torch.ones(2, 3, dtype=torch.bool), "torch.bool"),
        (torch.full((1, 1, 5), float("nan")), "soft tokens must be finite"),
        (["CC"], "tokens must be a tensor"),
    ],
)
def test_what_are_no_tokens_is_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(ATOMS).decode(tokens)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "b", "a"],), "there once, 'a' is twice"),
        ((["a", ""],), "symbol 1 is ''"),
        ((["a", "b\0"],), "holds no NUL, symbol 1"),
        ((["a", 3],), "symbol 1 is 3"),
        ((3,), "symbols must be several texts"),
        ((["<pad>", "<end>"],), "needs a symbol beside"),
        ((["a", "b"], "a", "a"), "a padding and an end that differ"),
        ((["a"], None), "padding must be a text"),
    ],
)
def test_what_is_no_vocabulary_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(*arguments)


@pytest.mark.parametrize(
    ("soft", "temperature", "message"),
    [
        (torch.ones(1, 2, 5), 0.0, "temperature must be a positive number"),
        (-torch.ones(1, 2, 5), 1.0, "probabilities must be floats of at least 0"),
        (torch.zeros(1, 2, 5), 1.0, "one above 0 at each position"),
        (torch.zeros(1, 2, dtype=int), 1.0, "probabilities must be floats"),
    ],
)
def test_what_are_no_probabilities_is_refused(soft, temperature, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(ATOMS).draw(soft, temperature)


def some_vocabularies():
    pytest.importorskip("tokenizers"), pytest.importorskip("selfies")
    return [
        (Vocabulary(["_", "a", "b", "."], padding="_", end="."), ["ab", "b"]),
        (BPEVocabulary.of(["new york", "new", "york"], 16), ["new york", "york"]),
        (SelfiesVocabulary.of(["CCO", "C=O"]), ["CCO", "C=O"]),
    ]


def test_it_is_saved_with_a_policy(tmp_path):
    for i, (vocabulary, strings) in enumerate(some_vocabularies()):
        shape = (8, vocabulary.size)
        policy = af.FlowMapPolicy(nn.Sequential(), shape, decode=vocabulary)
        states = vocabulary.one_hot(vocabulary.encode(strings, 8))
        folder = policy.save(tmp_path / str(i))
        loaded = af.load(folder, module=nn.Sequential())
        assert loaded.decode(states) == policy.decode(states) == vocabulary.decode(states)
        assert loaded.decoder.arguments == vocabulary.arguments
        assert type(loaded.decoder) is type(vocabulary)


def test_it_is_copied_and_pickled():
    for vocabulary, strings in some_vocabularies():
        tokens = vocabulary.encode(strings, 8)
        for other in (copy.deepcopy(vocabulary), pickle.loads(pickle.dumps(vocabulary))):
            assert other.encode(strings, 8).equal(tokens)
            assert other.decode(tokens) == vocabulary.decode(tokens)


def test_soft_tokens_are_decoded_as_they_are_drawn():
    vocabulary, soft = Vocabulary(["<pad>", "a", "b"]), torch.tensor([[[0.0, 0.4, 0.6]]])
    soft = soft.expand(2000, 1, 3)
    assert set(vocabulary.decode(soft)) == {"b"}
    for temperature, p in ((1.0, 0.4), (0.5, 0.16 / 0.52)):
        texts = vocabulary(soft, temperature=temperature, generator=0)
        assert texts == vocabulary.decode(vocabulary.draw(soft, temperature, generator=0))
        # five standard errors
        error = 5 * (p * (1 - p) / 2000) ** 0.5
        assert texts.count("a") / 2000 == pytest.approx(p, abs=error)
    molecules = SelfiesVocabulary(["<pad>", "[C]", "[O]"])
    assert set(molecules.decode(soft, 1.0, 0)) == {"C", "O"}
