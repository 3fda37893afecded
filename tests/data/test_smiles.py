"""Molecules as texts of their own type, and their canonical form."""

import copy

import pytest

from alignflow.data import SelfiesVocabulary, Smiles, Vocabulary


def test_a_vocabulary_of_selfies_decodes_to_smiles():
    pytest.importorskip("selfies")
    vocabulary = SelfiesVocabulary(["<pad>", "[C]", "[O]"])
    decoded = vocabulary.decode(vocabulary.encode(["CCO", "CO"]))
    assert decoded == ["CCO", "CO"] and all(type(text) is Smiles for text in decoded)
    assert type(copy.deepcopy(decoded)[0]) is Smiles


def test_spellings_of_a_molecule_have_one_canonical_form():
    pytest.importorskip("selfies")
    pytest.importorskip("rdkit")
    vocabulary = SelfiesVocabulary(["<pad>", "[C]", "[O]"])
    assert vocabulary.canonical(["OCC", "CCO", ""]) == ["CCO", "CCO", ""]


def test_other_texts_stand_for_themselves():
    assert Vocabulary(["a", "b"]).canonical(["ab", "ba"]) == ["ab", "ba"]
