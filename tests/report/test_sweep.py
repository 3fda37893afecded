"""The page of a sweep: every strength's reward, distance and exact tilt, side by side."""

import json
import re
from html import unescape

import pytest

from alignflow.cli import main
from alignflow.report import ReportError, build_sweep_report, is_sweep


def test_every_model_of_every_run_stands_in_the_table(sweep):
    html = build_sweep_report(sweep).read_text("utf-8")
    table = re.search(r"<tbody>(.*?)</tbody>", html, re.DOTALL)
    assert table is not None
    rows = [
        [
            unescape(re.sub("<.*?>", "", cell))
            for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)
        ]
        for row in table.group(1).split("</tr>")[:-1]
    ]
    named = [(row[0], row[1]) for row in rows]
    models = ("steered: lookahead", "tuned: weighted")
    assert named == [("base", ""), *((m, s) for m in models for s in ("1", "2", "4"))]
    assert [row[2][:3] for row in rows[1:4]] == ["0.2", "0.4", "0.8"]
    assert all(row[3].startswith("0.62") for row in rows[1:])  # the exact tilt


def test_it_has_a_plot_for_each_distance_and_one_over_strengths(sweep):
    html = build_sweep_report(sweep).read_text("utf-8")
    labels = re.findall(r'<svg role="img" aria-label="(.*?)"', html)
    assert labels == [
        "Reward against sliced W2",
        "Reward against frechet",
        "Reward against strength",
    ]
    assert not re.search(r'(src|href)="(?!#|data:)', html)


def test_runs_of_different_rewards_are_refused(sweep, write):
    content = json.loads((sweep / "0/stages/evaluate/result.json").read_text())
    write(sweep / "0", content | {"reward_name": "redness"})
    with pytest.raises(ReportError, match="share their reward, got p\\(glasses\\) and redness"):
        build_sweep_report(sweep)


def test_the_command_tells_a_sweep_from_a_run(sweep, capsys):
    assert is_sweep(sweep)
    assert main(["report", str(sweep)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["report", str(sweep / "0")]) == 0


def test_a_run_is_no_sweep_and_neither_is_nothing(bare_run, tmp_path):
    assert not is_sweep(bare_run)
    assert not is_sweep(tmp_path / "nowhere")


def test_its_pages_look_alike_and_name_the_columns_in_the_cells(sweep):
    html = build_sweep_report(sweep).read_text("utf-8")
    assert '<nav class="contents"' not in html  # two sections need none
    assert html.count('data-label="strength"') == 6
