"""Measures of molecules against those drawn on paper."""

import pytest

from alignflow.metrics import canonical, odd_rings

pytest.importorskip("rdkit")


def test_a_molecule_has_one_canonical_smiles():
    assert canonical(["C1=CC=CC=C1", "c1ccccc1", "OCC", "nonsense", ""]) == [
        "c1ccccc1",
        "c1ccccc1",
        "CCO",
        "",
        "",
    ]


def test_odd_rings_have_neither_five_nor_six_atoms():
    # rings of 6, of 5 and 6, of 3, and none
    found = odd_rings(["c1ccccc1", "c1ccc2[nH]ccc2c1", "C1CC1", "CCO"])
    assert found.value == 1 / 4 and found.standard_error > 0
    assert odd_rings(["CCO", "nonsense"]).value == 0
    assert odd_rings(["C1CCCCCC1"] * 7).value == 1
