"""Mermaid flowcharts, drawn as SVG without a script: the few forms that a graph of nodes needs.

Read are nodes (`id`, `id["label"]` and the other brackets), arrows with or without a label, chains
and `&`. Nodes stand in one column in the order in which they appear, which is the order in which
they run. Arrows to the next node go straight down, those that skip nodes pass on the left and those
that go back on the right, each in a lane of its own.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape, unescape

from .value import ReportError

__all__ = ["Flowchart", "draw", "parse"]

IGNORED = ("graph", "flowchart", "%%", "classDef", "class ", "style ", "linkStyle", "subgraph",
           "end", "direction", "---", "title:")  # fmt: skip
NODE = re.compile(
    r"\s*(?P<id>\w+(?:[.-]\w+)*)"
    r"(?:(?P<open>[\[({>]+)\s*(?P<label>\"[^\"]*\"|[^\])}]*?)\s*[\])}]+)?(?::::\w+)?\s*"
)
ARROW = re.compile(
    r"\s*(?:<?[-=.]{2,}[>xo]?\s*\|(?P<piped>[^|]*)\||"  # -->|label|
    r"(?:--|==|-\.)\s+(?P<inline>[^|>]*?)\s+(?:-+|=+|\.-+)>|"  # -- label -->
    r"<?[-=.]{2,}[>xo]?)\s*"  # -->
)
CHARACTER, LINE, PAD = 7.0, 18, 14  # px of 13 px text
GAP, LANE, BEND = 40, 14, 7  # px between nodes, between lanes, and of a corner


@dataclass(frozen=True)
class Flowchart:
    """Labels by node and by arrow (from, to), in order of appearance; labels may have lines."""

    nodes: dict[str, str]
    arrows: dict[tuple[str, str], str]


@dataclass(frozen=True)
class _Row:
    """Where a node stands; all nodes are as wide as the widest."""

    top: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2

    @property
    def exit(self) -> float:
        return self.top + self.height - 8


def parse(text: str) -> Flowchart:
    """The flowchart of a mermaid text.

    Raises:
        ReportError: If a line is none of the forms above; it names the line.
    """
    nodes: dict[str, str] = {}
    arrows: dict[tuple[str, str], str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip().rstrip(";")
        if not line or line.startswith(IGNORED):
            continue
        try:
            previous, label = [], ""
            for group, label_of_next in _chain(line, nodes):
                for pair in ((a, b) for a in previous for b in group):
                    arrows[pair] = ", ".join(filter(None, [arrows.get(pair), label]))
                previous, label = group, label_of_next
        except _Unreadable as error:
            raise ReportError(
                f"line {number} of the mermaid text is not understood: {line}"
            ) from error
    return Flowchart(nodes, arrows)


def draw(chart: Flowchart, title: str) -> str:
    """A flowchart as an SVG element that takes its colors from the page."""
    order = {name: row for row, name in enumerate(chart.nodes)}
    straight, skipping, returning = [], [], []
    for start, end in chart.arrows:
        step = order[end] - order[start]
        (straight if step == 1 else skipping if step > 1 else returning).append((start, end))
    rows = _rows(chart, max(Counter(end for _, end in skipping).values(), default=0))
    width = max(120, *(_width(label) + 2 * PAD for label in chart.nodes.values()))
    head = re.sub(r"\W+", "-", f"head of {title}")
    center, right = width / 2, width
    parts = []
    for start, end in straight:
        y0, y1, label = (
            rows[start].top + rows[start].height,
            rows[end].top,
            chart.arrows[start, end],
        )
        parts.append(
            f'<path class="arrow" d="M{center:g} {y0:g}V{y1 - 1:g}" marker-end="url(#{head})"/>'
        )
        parts.append(_text(label, center + 8, (y0 + y1) / 2, "arrow-label", "start"))
        right = max(right, center + 8 + _width(label))
    far_left = -_lanes(parts, chart, rows, skipping, head, edge=0, clear=0, side=-1)
    far_right = _lanes(parts, chart, rows, returning, head, edge=width, clear=right - width, side=1)
    for name, row in rows.items():
        box = f'y="{row.top:g}" width="{width:g}" height="{row.height:g}" rx="8"'
        parts.append(f'<rect class="node" x="0" {box}/>')
        parts.append(_text(chart.nodes[name], center, row.middle, "node-label", "middle"))
    span, height = far_right - far_left + 8, max(r.top + r.height for r in rows.values()) + 4
    return (
        f'<svg class="graph" role="img" aria-label="{escape(title)}" style="width: {span:.0f}px" '
        f'viewBox="{far_left - 4:g} -2 {span:g} {height:g}">'
        f'<defs><marker id="{head}" class="arrowhead" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


class _Unreadable(Exception):
    pass


def _chain(line: str, nodes: dict[str, str]) -> Iterator[tuple[list[str], str]]:
    """Groups of nodes along `a & b --> c --> d`, each with the label of the arrow after it."""
    position = 0
    while True:
        group = []
        while True:
            node = NODE.match(line, position)
            if node is None:
                raise _Unreadable
            _name(node, nodes)
            group.append(node["id"])
            position = node.end()
            if not line.startswith("&", position):
                break
            position += 1
        if position == len(line):
            yield group, ""
            return
        arrow = ARROW.match(line, position)
        if arrow is None:
            raise _Unreadable
        yield group, _clean(arrow["piped"] or arrow["inline"] or "")
        position = arrow.end()


def _name(node: re.Match, nodes: dict[str, str]) -> None:
    if node["label"]:
        nodes[node["id"]] = _clean(node["label"])
    nodes.setdefault(node["id"], node["id"])


def _clean(label: str) -> str:
    label = re.sub(r"<br\s*/?>|\\n", "\n", label.strip().strip('"'))
    label = re.sub(r"</?(?:b|i|em|strong|small|code)>", "", label)
    label = re.sub(r"#(\w+);", r"&\1;", label)  # mermaid's #quot; is HTML's &quot;
    return "\n".join(line.strip() for line in unescape(label).split("\n"))


def _rows(chart: Flowchart, entries: int) -> dict[str, _Row]:
    """Rows of the nodes, high enough for their lines and for the arrows that enter at one side."""
    rows, top = {}, 0.0
    for name, label in chart.nodes.items():
        height = max(LINE * len(label.split("\n")), LINE * entries) + PAD
        rows[name] = _Row(top, height)
        top += height + GAP
    return rows


def _lanes(
    parts: list[str],
    chart: Flowchart,
    rows: dict[str, _Row],
    arrows: list[tuple[str, str]],
    head: str,
    *,
    edge: float,
    clear: float,
    side: int,
) -> float:
    """Draw arrows around one side, the longest outermost; how far they reach to that side."""
    order = list(rows)
    arrows = sorted(arrows, key=lambda arrow: abs(order.index(arrow[0]) - order.index(arrow[1])))
    inner = max([clear, *(_width(chart.arrows[arrow]) + 10 for arrow in arrows)]) + 2 * BEND
    entered: Counter[str] = Counter()
    for lane, (start, end) in enumerate(arrows):
        x = edge + side * (inner + LANE * lane)
        y0, y1 = rows[start].exit, rows[end].top + 10 + LINE * entered[end]
        entered[end] += 1
        near, down = x - side * BEND, BEND if y1 > y0 else -BEND
        parts.append(
            f'<path class="arrow" d="M{edge:g} {y0:g}H{near:g}Q{x:g} {y0:g} {x:g} {y0 + down:g}'
            f'V{y1 - down:g}Q{x:g} {y1:g} {near:g} {y1:g}H{edge + side:g}" '
            f'marker-end="url(#{head})"/>'
        )
        anchor = "start" if side > 0 else "end"
        parts.append(
            _text(chart.arrows[start, end], edge + side * 12, y1 - 8, "arrow-label", anchor)
        )
    return side * edge + (inner + LANE * (len(arrows) - 1) if arrows else clear)


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
