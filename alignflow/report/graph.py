"""Mermaid flowcharts, drawn as SVG without a script: the few forms that a graph of nodes needs.

Read are nodes (`id`, `id["label"]` and the other brackets), arrows with or without a label, chains
and `&`. Laid out top to bottom: each node below the last of those it waits for; arrows that skip a
layer pass on the left, arrows that go back pass on the right.
"""

import re
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
GAP, LAYER = 36, 54  # px between nodes of a layer, and between layers


@dataclass(frozen=True)
class Flowchart:
    """Labels by node and by arrow (from, to), in order of appearance; labels may have lines."""

    nodes: dict[str, str]
    arrows: dict[tuple[str, str], str]


@dataclass(frozen=True)
class _Box:
    x: float  # of its center
    y: float  # of its top
    width: float
    height: float
    layer: int


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
    boxes = _place(chart)
    if not boxes:
        return ""
    parts: list[str] = []
    left = min(box.x - box.width / 2 for box in boxes.values())
    right = max(box.x + box.width / 2 for box in boxes.values())
    head = re.sub(r"\W+", "-", f"head of {title}")
    widest = max(map(_width, chart.arrows.values()), default=0) + 8
    for (start, end), label in chart.arrows.items():
        path, (x, y), anchor = _route(boxes, boxes[start], boxes[end], widest)
        before = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * _width(label)
        left, right = min(left, x - before), max(right, x - before + _width(label))
        parts.append(f'<path class="arrow" d="{path}" marker-end="url(#{head})"/>')
        parts.append(_text(label, x, y, "arrow-label", anchor))
    for name, box in boxes.items():
        corner = f'x="{box.x - box.width / 2:.1f}" y="{box.y:.1f}"'
        size = f'width="{box.width:.1f}" height="{box.height:.1f}"'
        parts.append(f'<rect class="node" {corner} {size} rx="8"/>')
        middle = box.y + box.height / 2
        parts.append(_text(chart.nodes[name], box.x, middle, "node-label", "middle"))
    width, height = right - left + 8, max(box.y + box.height for box in boxes.values()) + 4
    return (
        f'<svg class="graph" role="img" aria-label="{escape(title)}" style="width: {width:.0f}px" '
        f'viewBox="{left - 4:.1f} -2 {width:.1f} {height:.1f}">'
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


def _layers(chart: Flowchart) -> dict[str, int]:
    """Layer of each node: the longest way to it, without the arrows that close a loop."""
    after: dict[str, list[str]] = {name: [] for name in chart.nodes}
    for start, end in chart.arrows:
        after[start].append(end)
    finished: list[str] = []
    forward: list[tuple[str, str]] = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        for end in after[name]:
            if end in trail or end == name:
                continue
            forward.append((name, end))
            if end not in finished:
                visit(end, (*trail, name))
        if name not in finished:
            finished.append(name)

    for name in chart.nodes:
        if name not in finished:
            visit(name, ())
    layer = dict.fromkeys(chart.nodes, 0)
    for name in reversed(finished):
        for start, end in forward:
            if start == name:
                layer[end] = max(layer[end], layer[name] + 1)
    return layer


def _place(chart: Flowchart) -> dict[str, _Box]:
    layers = _layers(chart)
    boxes, y = {}, 0.0
    for layer in range(max(layers.values(), default=-1) + 1):
        names = [name for name in chart.nodes if layers[name] == layer]
        lines = {name: chart.nodes[name].split("\n") for name in names}
        widths = {n: max(_width(chart.nodes[n]) + 2 * PAD, 120) for n in names}
        height = max(LINE * len(lines[name]) for name in names) + PAD
        x = -(sum(widths.values()) + GAP * (len(names) - 1)) / 2
        for name in names:
            boxes[name] = _Box(x + widths[name] / 2, y, widths[name], height, layer)
            x += widths[name] + GAP
        y += height + LAYER
    return boxes


def _route(
    boxes: dict[str, _Box], a: _Box, b: _Box, label_width: float
) -> tuple[str, tuple[float, float], str]:
    """Path of an arrow, and the place and anchor of its label."""
    if b.layer == a.layer + 1:
        y, end = a.y + a.height, b.y - 1
        mid = (y + end) / 2
        path = f"M{a.x:.1f} {y:.1f}C{a.x:.1f} {mid:.1f} {b.x:.1f} {mid:.1f} {b.x:.1f} {end:.1f}"
        if a.x == b.x:
            return path, (a.x + 8, mid), "start"
        return path, ((a.x + b.x) / 2, mid), "middle"
    side = -1 if b.layer > a.layer else 1
    low, high = sorted((a.layer, b.layer))
    passed = [box for box in boxes.values() if low <= box.layer <= high]
    clear = max(side * box.x + box.width / 2 for box in passed)
    # labels of straight arrows stand on the right
    far = side * (max(clear, label_width) if side > 0 else clear) + side * 24
    start, end = a.x + side * a.width / 2, b.x + side * (b.width / 2 + 1)
    # a cubic with both handles at the same x goes three quarters of the way there
    handle = (far - 0.125 * (start + end)) / 0.75
    # an arrow from a node to itself leaves above its middle and comes back below it
    nudge = 8 if a == b else 0
    y0, y1 = a.y + a.height / 2 - nudge, b.y + b.height / 2 + nudge
    path = f"M{start:.1f} {y0:.1f}C{handle:.1f} {y0:.1f} {handle:.1f} {y1:.1f} {end:.1f} {y1:.1f}"
    return path, (far + side * 8, (y0 + y1) / 2), "start" if side > 0 else "end"


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
