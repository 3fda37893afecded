"""Templates as fixed tokens: what is free, what ends a string, and what is refused."""

import pytest
import torch

from alignflow.data import BPEVocabulary, SelfiesVocabulary, Vocabulary

ATOMS = ["<pad>", "C", "N", "O", "Cl"]


def test_a_template_fixes_tokens_and_leaves_others_free():
    vocabulary = Vocabulary(ATOMS)
    fixed = vocabulary.template(["CCl*", "*Cl", "_N_O", "C*O"], 4)
    assert fixed.dtype == torch.int64
    assert fixed.tolist() == [[1, 4, -1, -1], [-1, -1, -1, 4], [-1, 2, -1, 3], [1, -1, -1, 3]]
    # one text is one row, and a text without a star ends where it ends
    assert vocabulary.template("C_", 4).tolist() == [[1, -1, 0, 0]]
    assert vocabulary.template("*", 2).tolist() == [[-1, -1]]
    assert vocabulary.template("C?N.", 5, free="?", rest=".").tolist() == [[1, -1, 2, -1, -1]]


def test_a_template_ends_with_the_end():
    vocabulary = Vocabulary(["<pad>", "<end>", "a", "b"])
    found = vocabulary.template(["a*", "*b", "_b"], 5).tolist()
    assert found == [[2, -1, -1, -1, -1], [-1, -1, -1, 3, 1], [-1, 3, 1, 0, 0]]


def test_templates_are_of_the_symbols_of_their_vocabulary():
    pieces = BPEVocabulary(["<pad>", "a", "b", "ab"], [("a", "b")])
    assert pieces.template("ab_a*", 5).tolist() == [[3, -1, 1, -1, -1]]
    selfies = SelfiesVocabulary.of(["CCO", "CC=O"])
    fixed = selfies.template("CC=O*", 5)[0]
    assert [selfies.symbols[i] for i in fixed[:3]] == ["[C]", "[C]", "[=O]"]
    assert fixed[3:].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CNO", 4), "the pattern 'CNO' fixes all 4 tokens: nothing is left to fill in"),
        (("CN*O", 3), "fixes all 3 tokens"),
        (("C___", 3), "the pattern 'C___' takes 4 tokens, more than length=3"),
        (("C**", 3), r"the pattern 'C\*\*' has '\*' more than once"),
        (("CX*", 3), "holds 'X' at position 1"),
        (("", 3), "string 0 is empty"),
        ((["C*", ""], 3), "string 1 is empty"),
        ((3, 3), "strings must be several texts, got 3"),
        (("C*", 0), "length must be a whole number of at least 1"),
        (("C*", 3, "N"), "free must be a character that is no symbol, got 'N'"),
        (("C*", 3, "_", "**"), r"rest must be a character that is no symbol, got '\*\*'"),
        (("C*", 3, "?", "?"), "free and rest must differ"),
    ],
)
def test_what_is_no_template_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(ATOMS).template(*arguments)


def test_a_template_without_padding_must_fill_the_length():
    with pytest.raises(ValueError, match="'a_' leaves 1 places, and the vocabulary has no padding"):
        Vocabulary("ab").template("a_", 3)
