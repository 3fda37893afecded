"""The shipped strings: how many, their entropy, the longest, and molecules as symbols."""

import gzip
import math
from importlib import import_module

import pytest
import torch

from alignflow.data import BPEVocabulary, SelfiesVocabulary, fragments, molecules, names, sentences
from alignflow.data.molecules import FILES, moses


def test_names_are_the_thousand_most_frequent():
    data = names()
    assert len(data) == len(set(data.strings)) == 1000
    assert data.event_shape == (12, 27)
    assert data.strings[:3] == ["smith", "johnson", "williams"]
    assert {len(min(data.strings, key=len)), len(max(data.strings, key=len))} == {2, 11}
    assert data.entropy == pytest.approx(6.3486, abs=1e-4)
    assert data.weights[0].item() == pytest.approx(1.006 / 43.384, rel=1e-4)
    assert data.mean(lambda strings: [s.endswith("son") for s in strings]) == pytest.approx(
        0.1020, abs=1e-4
    )


@pytest.fixture(scope="module")
def data():
    """The fragments."""
    pytest.importorskip("selfies")
    return fragments()


def test_fragments_are_known_molecules_with_weights(data):
    assert len(data) == len(set(data.strings)) == 2020
    assert data.event_shape == (24, 26)
    assert data.entropy == pytest.approx(5.2329, abs=1e-4)
    assert data.strings[:3] == ["C1=CC=CC=C1", "C1=CC=NC=C1", "CCC=O"]
    assert (data.tokens != 0).sum(1).max() == 24
    # what is drawn is written again with the same tokens
    assert data.vocabulary.encode(data.strings[:200], 24).equal(data.tokens[:200])


def test_fragments_are_of_4_to_12_heavy_atoms(data):
    chemistry = pytest.importorskip("rdkit.Chem")
    atoms = [chemistry.MolFromSmiles(s).GetNumHeavyAtoms() for s in data.strings]
    assert (min(atoms), max(atoms)) == (4, 12)


@pytest.mark.parametrize(
    ("split", "n"), [("train", 218_099), ("test", 9_920), ("scaffolds", 9_897)]
)
def test_molecules_travel_with_the_library(split, n):
    data = molecules(split)
    assert len(data) == n and data.event_shape == (44, 27)
    assert data.entropy == pytest.approx(math.log(n))
    assert (data.tokens != 0).sum(1).double().mean().item() == pytest.approx(34.5, abs=0.5)
    some = molecules(split, 100)
    assert some.tokens.equal(data.tokens[: len(some)]) and 95 <= len(some) <= 100


def test_every_molecule_is_one():
    pytest.importorskip("selfies")
    chemistry = pytest.importorskip("rdkit.Chem")
    strings = molecules("test", 100).strings
    assert len(set(strings)) == len(strings)
    assert all(chemistry.MolFromSmiles(s) for s in strings)


def test_molecules_that_are_not_here_are_asked_of_the_package(tmp_path, monkeypatch):
    pytest.importorskip("selfies")
    folder = tmp_path / "moses" / "dataset" / "data"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    moses.cache_clear()
    with pytest.raises(ImportError, match="pip install --no-deps molsets"):
        molecules("test", 20_000)
    (tmp_path / "moses" / "__init__.py").write_text("raise ImportError('it is not imported')")
    for name in FILES.values():
        content = "SMILES\nCCO\nCCN\n" + "C" * 45 + "\nc1ccccc1\n"
        (folder / name).write_bytes(gzip.compress(content.encode()))
    module = import_module("alignflow.data.molecules")
    monkeypatch.setattr(module, "shipped", lambda split: torch.zeros((0, 44), dtype=torch.uint8))
    try:
        assert set(molecules("test", 4).strings) == {"CCO", "CCN", "C1=CC=CC=C1"}
        with pytest.raises(ValueError, match="n must be a whole number from 1 to 4"):
            molecules("test", 5)
    finally:
        moses.cache_clear()


def test_what_is_no_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of train, test, scaffolds"):
        molecules("validation")


def test_selfies_take_and_give_smiles():
    pytest.importorskip("selfies")
    vocabulary = SelfiesVocabulary.of(["CCO", "c1ccccc1"])
    assert vocabulary.symbols[0] == "<pad>" and "[Ring1]" in vocabulary.symbols
    tokens = vocabulary.encode(["CCO", "c1ccccc1"], 10)
    assert vocabulary.decode(tokens) == ["CCO", "C1=CC=CC=C1"]
    assert vocabulary.decode(torch.zeros(1, 10, dtype=torch.long)) == [""]


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        (["CCO", "CCN"], r"string 1 .* holds '\[N\]' at position 6, which is no symbol"),
        (["C(C"], r"string 0 \('C\(C'\) is no molecule that SELFIES can write"),
        (["CCO", ""], "string 1 is empty"),
        (["CCO" * 9], "takes 27 tokens, more than length=10"),
    ],
)
def test_molecules_that_it_cannot_write_are_refused(smiles, message):
    pytest.importorskip("selfies")
    with pytest.raises(ValueError, match=message):
        SelfiesVocabulary.of(["CCO", "c1ccccc1"]).encode(smiles, 10)


def test_what_is_no_symbol_of_selfies_is_refused():
    with pytest.raises(ValueError, match=r"a symbol of SELFIES is like '\[C\]', got 'C'"):
        SelfiesVocabulary(["<pad>", "[C]", "C"])


def test_sentences_are_held_out_or_learned_from():
    train, test = sentences(), sentences("test")
    assert (len(train), len(test)) == (107_157, 5_000)
    assert train.event_shape == test.event_shape == (64, 33)
    texts = {*train.strings, *test.strings}
    assert len(texts) == 112_157
    assert train.strings[:2] == ["prepare for sleep", "felt acute annoyance"]
    assert sum(map(len, texts)) / len(texts) == pytest.approx(34.41, abs=0.01)
    train.vocabulary.check_same(test.vocabulary)


def test_sentences_in_pieces_are_the_same():
    pytest.importorskip("tokenizers")
    train, test = sentences(vocabulary=128, length=24), sentences("test", 128, 24)
    assert isinstance(train.vocabulary, BPEVocabulary)
    assert train.event_shape == test.event_shape == (24, 128)
    train.vocabulary.check_same(test.vocabulary)
    assert train.strings[:2] == ["prepare for sleep", "felt acute annoyance"]
    whole = sentences("test", 128)
    assert sorted(whole.strings) == sorted(sentences("test").strings)
    # those of more tokens are left out
    assert (whole.tokens != 0).sum(1).le(24).sum() == len(test) < len(whole)
    assert whole.length == sentences(vocabulary=128).length == 48


def test_sentences_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="split must be"):
        sentences("valid")
    with pytest.raises(ValueError, match="vocabulary must be a whole number of at least 33"):
        sentences(vocabulary=32)
    with pytest.raises(ValueError, match="length must be a whole number from 1 to 64"):
        sentences(length=65)
