"""The pages of strings: written from small models that have learned nothing."""

import sys

import page
import pytest
import string_quality
import strings as bench
import torch
from models import KINDS, save
from string_draws import STEPS, data_rows, drawn, methods
from string_properties import HeldOut

from alignflow import data
from alignflow.policies import text_policy

SMALL = {"width": 8, "depth": 1, "heads": 2}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "drawn")
    monkeypatch.setattr(page, "DOCS", tmp_path / "docs" / "benchmarks")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, name, monkeypatch, n=20):
    strings = bench.DATA[name]()
    torch.manual_seed(0)
    text_policy(strings, **SMALL).save(folder / "model")
    for part in ("autoregressive", "masked", "judge"):
        model = KINDS.get(part, KINDS["autoregressive"])(*strings.event_shape, **SMALL)
        about = {"step": 3, "seconds": 60.0}
        save(model, folder / f"{name}_{part}.safetensors", about)
    script = folder / "scripts" / "bench" / "strings.py"
    options = ["--samples", str(n), "--model", str(folder / "model"), "--baselines", str(folder)]
    monkeypatch.setattr(sys, "argv", [str(script), name, *options])
    bench.main()
    return (folder / "docs" / "benchmarks" / f"{name}.md").read_text()


def row(page, start):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_of_names_has_all_methods_beside_the_exact_rates(folder, monkeypatch):
    written = write(folder, "names", monkeypatch)
    samples, properties = written.split("## Properties")
    assert row(samples, "data")[2].startswith("1.000")
    for steps in STEPS:
        plural = "s" if steps > 1 else ""
        assert row(samples, f"flow map, {steps} step{plural}")[1] == str(steps)
    assert row(samples, "autoregressive")[1] == "12"
    assert row(properties, "exact")[1] == "10.2"  # end in son
    assert float(row(written, "the list")[2]) == pytest.approx(6.349, abs=1e-3)


def test_the_page_of_molecules_has_scores_and_distances(folder, monkeypatch):
    pytest.importorskip("rdkit")
    pytest.importorskip("selfies")
    few = bench.DATA["molecules"]().select(slice(200))
    monkeypatch.setitem(bench.DATA, "molecules", lambda: few)
    written = write(folder, "molecules", monkeypatch)
    samples, properties = written.split("## Properties")
    # nats of an untrained judge are those of uniform tokens
    assert 50 < float(row(samples, "data")[2].split()[0]) < 44 * 3.3
    assert float(row(samples, "data")[6]) == 1.0  # valid
    assert 0.3 < float(row(properties, "data")[2]) < 6
    assert (folder / "drawn" / "molecules" / "known.txt").exists()


def test_stored_draws_are_taken_as_they_are(folder):
    strings = bench.DATA["names"]().select(slice(5))
    models = {kind: KINDS[kind](*strings.event_shape, **SMALL) for kind in KINDS}
    compared = methods(text_policy(strings, **SMALL), models, strings)
    first = drawn(folder / "some.pt", compared["autoregressive"], 7)
    assert first.shape == (7, 12)
    assert first.equal(drawn(folder / "some.pt", compared["data"], 7))


def test_rows_of_the_data_are_drawn_by_weight(generator):
    strings = bench.DATA["names"]()
    rows = data_rows(strings, 2_000, generator)
    found = (rows == strings.tokens[0]).all(1).double().mean().item()
    assert found == pytest.approx(strings.weights[0].item(), abs=0.017)


def test_frequencies_are_those_of_each_position():
    strings = bench.DATA["names"]()
    found = bench.frequencies(strings)
    exact = (strings.weights[:, None, None] * strings.states()).sum(0)
    torch.testing.assert_close(found, exact.double(), rtol=0, atol=1e-6)


def test_held_out_molecules_are_at_about_their_floor_from_each_other():
    pytest.importorskip("rdkit")
    smiles = data.molecules("test", 6 * 50).strings
    others = HeldOut(smiles[: 4 * 50], 50)
    same, fresh = others.distances(smiles[:50]), others.distances(smiles[250:])
    assert list(same) == ["QED", "SA", "logP", "atoms"]
    assert all(distance == 0 for _, distance in same.values())
    assert all(0.2 < distance < 6 for _, distance in fresh.values())
    assert 20 < fresh["atoms"][0].value < 24
    # 50 benzenes are far from drugs
    assert others.distances(["c1ccccc1"] * 50)["atoms"][1] > 10


def test_the_quality_of_a_model_of_molecules_is_measured(monkeypatch):
    pytest.importorskip("rdkit")
    monkeypatch.setattr(string_quality, "BATCH", 10)
    monkeypatch.setattr(string_quality, "ODE_STEPS", 2)
    held_out = data.molecules("test", 40)
    torch.manual_seed(0)
    policy = text_policy(held_out, **SMALL)
    measured = string_quality.molecule_quality(policy, held_out, 10)
    assert list(measured)[2:] == [
        *(f"{steps} steps, 10 samples" for steps in (1, 2, 4, 8)),
        "2 steps of the ODE, 10 samples",
    ]
    (bound, *_) = measured["bound of -log p of 10 held-out molecules"].split()
    assert 50 < float(bound) < 44 * 3.3
