"""Rewards of molecules: values known from the literature, invalid texts, refusals."""

import math
import pickle
import sys

import pytest
import torch

import alignflow as af
from alignflow.rewards import (
    QED,
    LogP,
    MoleculeReward,
    MoleculeSimilarity,
    Substructure,
    Synthesizability,
)

ASPIRIN, ETHANOL, BENZENE = "CC(=O)Oc1ccccc1C(=O)O", "CCO", "C1=CC=CC=C1"
MOLECULES = [ASPIRIN, ETHANOL, BENZENE]


@pytest.fixture(autouse=True)
def chemistry():
    return pytest.importorskip("rdkit")


def close(rewards, values, error):
    torch.testing.assert_close(rewards, torch.tensor(values), rtol=0, atol=error)


def test_likeness_to_drugs():
    close(QED()(MOLECULES), [0.5501, 0.4068, 0.4426], 1e-4)


def test_solubility_in_fat():
    close(LogP()(MOLECULES), [1.3101, -0.0014, 1.6866], 1e-4)


def test_ease_of_synthesis():
    # 1.58 is the score of aspirin, whose negative this is
    close(Synthesizability()(MOLECULES), [-1.580, -1.980, -1.0], 1e-3)


def test_substructures():
    assert Substructure("c1ccccc1")(MOLECULES).tolist() == [1, 0, 1]
    assert Substructure("[#8]", name="oxygen")(MOLECULES).tolist() == [1, 1, 0]


def test_similarity_to_a_molecule():
    reward = MoleculeSimilarity(ASPIRIN)
    # another way to write it is the same molecule
    assert reward([ASPIRIN, "OC(=O)c1ccccc1OC(C)=O"]).tolist() == [1, 1]
    assert 0 < reward([BENZENE]).item() < 0.5


def test_a_property_of_ones_own():
    reward = MoleculeReward(lambda molecule: molecule.GetNumHeavyAtoms(), "atoms")
    assert reward(MOLECULES).tolist() == [13, 3, 6] and reward.name == "atoms"


@pytest.mark.parametrize("text", ["", "C(C", "C1CC", "C(C)(C)(C)(C)C", "hello"])
def test_what_is_no_molecule_is_invalid(text, capfd):
    with pytest.raises(af.RewardError, match=r"'qed' is not finite for samples 1 \(nan\)"):
        QED()([ETHANOL, text])
    assert QED(on_invalid="drop")([ETHANOL, text])[1] == -math.inf
    best, worst, invalid = LogP(on_invalid="worst")([BENZENE, ETHANOL, text]).tolist()
    assert invalid == worst < best
    # of which RDKit would print an error
    assert capfd.readouterr().err == ""


def test_a_reward_is_pickled():
    for reward in (QED(), Substructure("[#8]"), MoleculeSimilarity(ASPIRIN)):
        assert pickle.loads(pickle.dumps(reward))(MOLECULES).equal(reward(MOLECULES))


def test_a_generator_of_molecules_is_scored():
    pytest.importorskip("selfies")
    data = af.data.fragments().select(slice(0, 50))
    assert 0 < data.mean(QED()) < 1
    states = data.states()
    assert QED().score(states, decode=data.vocabulary).equal(QED()(data.strings))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Substructure("[#7"), r"smarts must be a part of a molecule in SMARTS, got '\[#7'"),
        (lambda: Substructure(""), "smarts must not be empty"),
        (lambda: MoleculeSimilarity("C(C"), r"smiles must be a molecule in SMILES, got 'C\(C'"),
        (lambda: QED(on_invalid="ignore"), "on_invalid must be one of raise, drop, worst"),
        (lambda: MoleculeReward(3, "atoms"), "function must be a callable"),
    ],
)
def test_what_is_no_question_about_molecules_is_refused(make, message, capfd):
    with pytest.raises(ValueError, match=message):
        make()
    assert capfd.readouterr().err == ""


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"pip install 'alignflow\[molecules\]'"):
        QED()
