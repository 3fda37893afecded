"""The page of speed: every variant draws whole strings, and is timed and told."""

import argparse
import os
import subprocess
import sys

import page
import pytest
import text_speed
import torch

OPTIONS = {"data": "names", "width": 8, "depth": 1, "heads": 2, "device": "cpu", "compile": False}


def test_all_variants_draw_all_tokens_of_each_string():
    found = text_speed.calls(argparse.Namespace(**OPTIONS), 7)
    assert list(found) == [text_speed.AUTOREGRESSIVE, "flow map, 1 step", "flow map, 4 steps"]
    drawn = {name: call() for name, call in found.items()}
    assert all(tokens.shape == (7, 12) for tokens in drawn.values())
    assert (drawn[text_speed.AUTOREGRESSIVE] > 0).all()


@pytest.mark.parametrize("name", [text_speed.AUTOREGRESSIVE, "flow map, 4 steps"])
def test_what_is_compiled_draws_the_same(name, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call, mode=None: call)
    options = argparse.Namespace(**OPTIONS | {"compile": True})
    plain = text_speed.calls(options, 3)[name]()
    assert text_speed.calls(options, 3)[name + text_speed.COMPILED]().equal(plain)


def test_the_page_has_rates_of_each_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(text_speed, "peak_apart", lambda name, n: 12.0)
    sizes = "--data names --width 8 --depth 1 --heads 2 --rounds 3 --no-compile".split()
    monkeypatch.setattr(page, "DOCS", tmp_path / "docs" / "benchmarks")
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "text_speed.py"), *sizes])
    text_speed.main()
    written = (tmp_path / "docs" / "benchmarks" / "text_speed.md").read_text()
    assert "## Batch 1\n" in written and "## Batch 64\n" in written
    rows = [line.split("|")[1:-1] for line in written.splitlines() if "flow map, 1 step" in line]
    for n, row in zip(text_speed.BATCHES, rows, strict=True):
        _, milliseconds, _, tokens, strings, memory = (cell.strip() for cell in row)
        rate = float(strings.replace(",", ""))
        assert rate == pytest.approx(n / (float(milliseconds) / 1e3), rel=0.02)
        assert float(tokens.replace(",", "")) == pytest.approx(12 * rate, rel=0.01)
        assert memory == "12.0"


def test_peak_memory_is_what_a_call_takes():
    code = "import text_speed, torch; print(text_speed.peak(lambda: torch.ones(64, 2**20), 'cpu'))"
    # the peak of a process never falls, so that one that has done other things does not tell
    fresh = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    taken = subprocess.run(command, env=fresh, check=True, capture_output=True, text=True).stdout
    assert 250 < float(taken) < 400
