"""Texts in the page: in columns with their rewards, molecules drawn, refusals."""

import json
import sys

import pytest

from alignflow.report import ReportError, build_report
from alignflow.report.molecules import drawer

NAMES = ["base", "steered: lookahead", "tuned: weighted", "reference"]


def write_texts(folder, kind, texts, names=NAMES):
    rows = [
        {"name": name, "texts": texts, "rewards": [0.5, None, *[1.0] * (len(texts) - 2)]}
        for name in names
    ]
    content = {"version": 1, "kind": kind, "shown": rows}
    (folder / "stages/evaluate/texts.json").write_text(json.dumps(content))


def test_texts_stand_in_rows_with_their_rewards(bare_run):
    write_texts(bare_run, "text", ["anna & co", "", *["otto"] * 8])
    html = build_report(bare_run).read_text("utf-8")
    assert '<section id="samples">' in html
    assert html.count("anna &amp; co") == 4 and html.count("(empty)") == 4
    assert html.count('<div class="text">') == 40
    assert html.count("<small>0.5</small>") == 4
    assert html.count('<span class="chip tilt">reference</span>') == 2


@pytest.mark.parametrize(("length", "columns"), [(5, 8), (20, 6), (60, 2), (200, 1)])
def test_long_texts_have_fewer_columns(bare_run, length, columns):
    write_texts(bare_run, "text", ["a" * length] * 8)
    assert f"--columns: {columns}" in build_report(bare_run).read_text("utf-8")


def test_molecules_are_drawn(bare_run):
    pytest.importorskip("rdkit")
    write_texts(bare_run, "molecules", ["c1ccccc1", "CCO", ""])
    html = build_report(bare_run).read_text("utf-8")
    assert html.count('<img src="data:image/svg+xml;base64,') == 8
    assert 'alt="c1ccccc1"' in html and html.count("(empty)") == 4
    draw = drawer()
    assert draw is not None and draw("no molecule(") is None


def test_without_rdkit_molecules_stand_as_texts_and_the_page_says_why(bare_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    write_texts(bare_run, "molecules", ["c1ccccc1", "CCO"])
    html = build_report(bare_run).read_text("utf-8")
    assert "<img" not in html and html.count("c1ccccc1") == 4
    assert "where RDKit is installed" in html


def test_texts_of_a_stranger_are_refused(bare_run):
    write_texts(bare_run, "text", ["a", "b"], ["base", "stranger"])
    with pytest.raises(ReportError, match=r"texts.json holds texts of 'stranger'"):
        build_report(bare_run)


def test_texts_without_their_rewards_are_refused(bare_run):
    content = {
        "version": 1,
        "kind": "text",
        "shown": [{"name": "base", "texts": ["a"], "rewards": []}],
    }
    (bare_run / "stages/evaluate/texts.json").write_text(json.dumps(content))
    with pytest.raises(ReportError, match="'base' has 1 texts and 0 rewards"):
        build_report(bare_run)


def test_the_tilt_of_a_list_is_told_to_be_exact(bare_run, make_result):
    content = make_result(n=50)
    content["tilt"]["ess"] = None
    content["tilt"]["rates"]["glasses"] = [0.649, 0.649, 0.649]
    (bare_run / "stages/evaluate/result.json").write_text(json.dumps(content))
    write_texts(bare_run, "text", ["a", "b"])
    html = build_report(bare_run).read_text("utf-8")
    assert "as are those of the exact tilt" in html
    assert "of the whole list, without an error" in html and "effective sample of" not in html
    assert '<td data-label="exact tilt" class="divide">64.9</td>' in html
