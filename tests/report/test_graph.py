import re

import pytest

from alignflow.report.graph import draw, parse
from alignflow.report.value import ReportError

LOOP = """---
title: lookahead
---
flowchart TD
    %% a comment
    state(["state, time"]) --> posterior["flow map<br/>1 NFE"];
    posterior -->|endpoint| value
    value -- value_gradient --> transition{{"flow map jump"}}
    state --> transition
    transition -. "next state" .-> state
    classDef node fill:#fff
    class state node
"""


def test_nodes_labels_and_arrows_are_read():
    chart = parse(LOOP)
    assert chart.nodes == {
        "state": "state, time",
        "posterior": "flow map\n1 NFE",
        "value": "value",
        "transition": "flow map jump",
    }
    assert chart.arrows == {
        ("state", "posterior"): "",
        ("posterior", "value"): "endpoint",
        ("value", "transition"): "value_gradient",
        ("state", "transition"): "",
        ("transition", "state"): "next state",
    }


def test_chains_groups_and_repeated_arrows_are_read():
    chart = parse("graph LR\na & b --> c ==> d-1[x]\nb -->|one| c\nb -->|two| c")
    assert list(chart.arrows) == [("a", "c"), ("b", "c"), ("c", "d-1")]
    assert chart.arrows["b", "c"] == "one, two"
    assert chart.nodes["d-1"] == "x"


def test_quoted_labels_may_hold_brackets_and_entities():
    chart = parse('graph LR\na["X[s,t](x) #quot;now#quot; &amp; (then)"] --> b')
    assert chart.nodes["a"] == 'X[s,t](x) "now" & (then)'


def test_every_node_lies_below_those_it_waits_for():
    drawn = draw(parse(LOOP), "lookahead")
    tops = [float(y) for y in re.findall(r'<rect class="node" x="[^"]*" y="([^"]*)"', drawn)]
    assert tops == sorted(tops)
    assert len(set(tops)) == 4
    assert drawn.count('class="arrow"') == 5


def test_everything_drawn_lies_in_the_view():
    drawn = draw(parse(LOOP), "lookahead")
    left, top, width, height = map(float, re.search(r'viewBox="(-[^"]*)"', drawn)[1].split())
    for x, y, w, h in re.findall(
        r'<rect class="node" x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"', drawn
    ):
        assert left <= float(x) and float(x) + float(w) <= left + width
        assert top <= float(y) and float(y) + float(h) <= top + height


def test_labels_are_escaped():
    drawn = draw(parse('graph LR\na["<script>"] -->|"x < y"| b'), "a & <b>")
    assert "&lt;script&gt;" in drawn and "x &lt; y" in drawn
    assert "<script>" not in drawn and "a &amp; &lt;b&gt;" in drawn


@pytest.mark.parametrize("line", ["a -->", "--> b", "a b", "a --> ?"])
def test_a_line_that_is_no_chain_is_refused(line):
    with pytest.raises(ReportError, match="line 2 .* not understood"):
        parse(f"graph LR\n{line}")
