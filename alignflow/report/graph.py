"""The graph of a steerer as SVG, without a script.

Nodes stand in one column in the order in which they run, the steerer above them. Arrows to the next
node go straight down; those that skip nodes pass on the left, each in a lane of its own.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from alignflow.metrics.names import label
from alignflow.results import Graph, GraphNode, ReportError

__all__ = ["draw"]

STEERER = "steerer"
CHARACTER, LINE, PAD = 7.0, 18, 14  # px of 13 px text
GAP, LANE, BEND = 40, 14, 7  # px between nodes, between lanes, and of a corner


@dataclass(frozen=True)
class _Box:
    """Where a node stands; all are as wide as the widest."""

    label: str
    top: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height


@dataclass(frozen=True)
class _Arrow:
    """From one row to a later one."""

    start: int
    end: int
    label: str


def draw(graph: Graph, title: str) -> str:
    """A graph as an SVG element that takes its colors from the page.

    Raises:
        ReportError: If an edge does not lead from the steerer or a node to a later node.
    """
    arrows = list(_arrows(graph))
    straight = [arrow for arrow in arrows if arrow.end == arrow.start + 1]
    skipping = [arrow for arrow in arrows if arrow.end > arrow.start + 1]
    labels = [STEERER, *map(_label, graph.nodes)]
    boxes = _boxes(labels, max(Counter(arrow.end for arrow in skipping).values(), default=0))
    width = max(120, *(_width(label) + 2 * PAD for label in labels))
    head = re.sub(r"\W+", "-", f"head of {title}")
    center = width / 2
    left, lanes = _lanes(boxes, skipping, head)
    parts = [
        *_straight(boxes, straight, center, head),
        *lanes,
        *(part for box in boxes for part in _box(box, width)),
    ]
    right = max([width, *(center + 8 + _width(arrow.label) for arrow in straight)])
    span, height = right - left + 8, boxes[-1].bottom + 4
    return (
        f'<svg class="graph" role="img" aria-label="{escape(title)}" style="width: {span:.0f}px" '
        f'viewBox="{left - 4:g} -2 {span:g} {height:g}">'
        f'<defs><marker id="{head}" class="arrowhead" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


def _label(node: GraphNode) -> str:
    """The name and below it the cost, as far as there is one."""
    costs = [f"{count:g} {label(name)}" for name, count in node.cost.items() if count]
    return "\n".join(filter(None, [node.name, ", ".join(costs)]))


def _arrows(graph: Graph) -> Iterator[_Arrow]:
    """Edges between rows, of which the steerer is the first."""
    for edge in graph.edges:
        start = 0 if edge.source is None else edge.source + 1
        end = edge.target + 1
        if not 0 <= start < end <= len(graph.nodes):
            raise ReportError(
                f"an edge from {edge.source} to {edge.target} does not lead to a later one of the "
                f"{len(graph.nodes)} nodes"
            )
        yield _Arrow(start, end, ", ".join(edge.keys))


def _boxes(labels: list[str], entries: int) -> list[_Box]:
    """Boxes high enough for their lines and for the arrows that enter at the side."""
    boxes, top = [], 0.0
    for text in labels:
        height = max(LINE * len(text.split("\n")), LINE * entries) + PAD
        boxes.append(_Box(text, top, height))
        top += height + GAP
    return boxes


def _straight(boxes: list[_Box], arrows: list[_Arrow], center: float, head: str) -> Iterator[str]:
    for arrow in arrows:
        y0, y1 = boxes[arrow.start].bottom, boxes[arrow.end].top
        yield f'<path class="arrow" d="M{center:g} {y0:g}V{y1 - 1:g}" marker-end="url(#{head})"/>'
        yield _text(arrow.label, center + 8, (y0 + y1) / 2, "arrow-label", "start")


def _lanes(boxes: list[_Box], arrows: list[_Arrow], head: str) -> tuple[float, list[str]]:
    """How far the lanes reach to the left, and their arrows, the longest outermost."""
    arrows = sorted(arrows, key=lambda arrow: arrow.end - arrow.start)
    inner = max([0, *(_width(arrow.label) + 10 for arrow in arrows)]) + 2 * BEND
    entered: Counter[int] = Counter()
    parts = []
    for lane, arrow in enumerate(arrows):
        x = -(inner + LANE * lane)
        y0 = boxes[arrow.start].bottom - 8
        y1 = boxes[arrow.end].top + 10 + LINE * entered[arrow.end]
        entered[arrow.end] += 1
        near = x + BEND
        parts.append(
            f'<path class="arrow" d="M0 {y0:g}H{near:g}Q{x:g} {y0:g} {x:g} {y0 + BEND:g}'
            f'V{y1 - BEND:g}Q{x:g} {y1:g} {near:g} {y1:g}H-1" marker-end="url(#{head})"/>'
        )
        parts.append(_text(arrow.label, -12, y1 - 8, "arrow-label", "end"))
    return (-(inner + LANE * (len(arrows) - 1)) if arrows else 0.0), parts


def _box(box: _Box, width: float) -> Iterator[str]:
    size = f'y="{box.top:g}" width="{width:g}" height="{box.height:g}" rx="8"'
    yield f'<rect class="node" x="0" {size}/>'
    yield _text(box.label, width / 2, box.top + box.height / 2, "node-label", "middle")


def _width(label: str) -> float:
    return CHARACTER * max(map(len, label.split("\n")))


def _text(label: str, x: float, y: float, kind: str, anchor: str) -> str:
    lines = label.split("\n") if label else []
    first = y - LINE * (len(lines) - 1) / 2
    spans = "".join(
        f'<tspan x="{x:.1f}" y="{first + LINE * i:.1f}">{escape(line)}</tspan>'
        for i, line in enumerate(lines)
    )
    return f'<text class="{kind}" text-anchor="{anchor}" dominant-baseline="central">{spans}</text>'
