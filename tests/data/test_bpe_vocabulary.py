"""Byte-pair encoding: what merges, that text comes back as it was, and what is refused."""

import json
import sys

import pytest

from alignflow.data import BPEVocabulary

pytest.importorskip("tokenizers")
LINES = ["new york is new", "san diego is old", "the new  one is  new"] * 5


def test_what_stands_together_most_often_is_one_symbol():
    vocabulary = BPEVocabulary.of(["abab", "ab", "c"], size=5)
    assert vocabulary.symbols == ("<pad>", "a", "b", "c", "ab")
    assert vocabulary.merges == (("a", "b"),)
    assert vocabulary.encode(["cabab", "ba"], 4).tolist() == [[3, 4, 4, 0], [2, 1, 0, 0]]


def test_merges_stay_within_a_word_and_the_space_before_it():
    vocabulary = BPEVocabulary.of(LINES, size=60)
    assert " new" in vocabulary.symbols
    assert not any(" " in symbol.strip() for symbol in vocabulary.symbols)


def test_text_comes_back_as_it_was():
    vocabulary = BPEVocabulary.of(LINES, size=60)
    strings = [*LINES[:3], "a gown  sins", " old "]
    tokens = vocabulary.encode(strings, 20)
    assert vocabulary.decode(tokens) == strings
    assert vocabulary.encode(vocabulary.decode(tokens), 20).equal(tokens)


def test_its_arguments_make_it_anew_as_json():
    vocabulary = BPEVocabulary.of(LINES, size=40)
    again = BPEVocabulary(**json.loads(json.dumps(vocabulary.arguments)))
    assert again.symbols == vocabulary.symbols and again.merges == vocabulary.merges
    assert again.encode(LINES).equal(vocabulary.encode(LINES))


def test_an_end_stands_behind_the_pieces():
    vocabulary = BPEVocabulary(["<pad>", "a", "<end>", "b", "ab"], [["a", "b"]])
    tokens = vocabulary.encode(["abb", "a"], 4)
    assert tokens.tolist() == [[4, 3, 2, 0], [1, 2, 0, 0]]
    assert vocabulary.decode(tokens) == ["abb", "a"]


def test_a_character_that_is_no_symbol_is_refused():
    vocabulary = BPEVocabulary.of(LINES, size=40)
    with pytest.raises(ValueError, match="string 1 .* holds 'N' at position 0, .* mean 'n'"):
        vocabulary.encode(["new", "New"])
    # one behind a merged piece
    with pytest.raises(ValueError, match=r"holds '!' at position 3"):
        vocabulary.encode(["new!"])


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([["a", "c"]], "that together make a symbol"),
        ([["b", "a"]], "that together make a symbol"),
        (["ab"], "each merge must be a pair"),
        ([["a", "b", "a"]], "each merge must be a pair"),
        (3, "merges must be pairs"),
    ],
)
def test_what_is_no_merge_is_refused(merges, message):
    with pytest.raises(ValueError, match=message):
        BPEVocabulary(["<pad>", "a", "b", "ab"], merges)


def test_fewer_symbols_than_characters_are_refused():
    with pytest.raises(ValueError, match="size must be a whole number of at least 4, got 3"):
        BPEVocabulary.of(["abc"], size=3)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'alignflow\[text\]'"):
        BPEVocabulary.of(LINES)
