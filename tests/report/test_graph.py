"""The drawn graph of a steerer: order of its nodes, keys and costs, all in view and escaped."""

import re

import msgspec
import pytest

from alignflow.report.graph import draw
from alignflow.results import Graph, ReportError

NODES = ("flow map", "value", "flow map jump")


def graph(*edges, names=NODES, cost=()):
    nodes = [{"name": name, "reads": [], "writes": [], "cost": dict(cost)} for name in names]
    edges = [dict(zip(("source", "target", "keys"), edge, strict=True)) for edge in edges]
    return msgspec.convert({"title": "lookahead", "nodes": nodes, "edges": edges}, Graph)


LOOKAHEAD = graph(
    (None, 0, ["state", "time"]),
    (0, 1, ["endpoint"]),
    (1, 2, ["value_gradient"]),
    (None, 2, ["state"]),
    (0, 2, ["velocity"]),
    cost={"nfe": 1, "vjps": 0, "reward_calls": 2.0},
)


def test_every_node_lies_below_those_it_waits_for():
    drawn = draw(LOOKAHEAD, "lookahead")
    tops = [float(y) for y in re.findall(r'<rect class="node" x="[^"]*" y="([^"]*)"', drawn)]
    assert tops == sorted(tops)
    assert len(set(tops)) == 4
    assert drawn.count('class="arrow"') == 5


def test_everything_drawn_lies_in_the_view():
    drawn = draw(LOOKAHEAD, "lookahead")
    left, top, width, height = map(float, re.search(r'viewBox="(-[^"]*)"', drawn)[1].split())
    for x, y, w, h in re.findall(
        r'<rect class="node" x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"', drawn
    ):
        assert left <= float(x) and float(x) + float(w) <= left + width
        assert top <= float(y) and float(y) + float(h) <= top + height
    for x in re.findall(r"Q(-?[0-9.]+) ", drawn):
        assert left <= float(x)


def test_nodes_keys_and_costs_are_written():
    texts = re.findall(r"<tspan[^>]*>(.*?)</tspan>", draw(LOOKAHEAD, "lookahead"))
    assert {"steerer", *NODES, "state, time", "endpoint", "value_gradient"} <= set(texts)
    assert texts.count("1 NFE, 2 reward calls") == 3


def test_labels_are_escaped():
    drawn = draw(graph((None, 0, ["x < y"]), names=["<script>"]), "a & <b>")
    assert "&lt;script&gt;" in drawn and "x &lt; y" in drawn
    assert "<script>" not in drawn and "a &amp; &lt;b&gt;" in drawn


@pytest.mark.parametrize(("source", "target"), [(1, 1), (2, 0), (0, 3), (-2, 0)])
def test_an_edge_that_leads_to_no_later_node_is_refused(source, target):
    with pytest.raises(ReportError, match="does not lead to a later"):
        draw(graph((source, target, [])), "lookahead")
