"""The graph of a steerer as text, as HTML, and as a Mermaid flowchart."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alignflow.cost import Cost
from alignflow.graph import Node
from alignflow.html_table import html_table

if TYPE_CHECKING:
    from .steerer import Steerer

__all__ = ["draw_html", "draw_mermaid", "draw_table"]

WIDTH = 80  # columns
HEADS = [name.replace("_", " ") for name, _ in Cost().items()]


def draw_table(steerer: Steerer) -> str:
    """Each node of a guided step with its cost for one row of the batch, and its keys below."""
    rows = list(_rows(steerer))
    # a heading of two words stands in two lines
    heads = [head.rpartition(" ")[::2] for head in HEADS]
    numbers = [*zip(*heads, strict=True), *(costs for _, _, _, costs in rows)]
    widths = [max(map(len, column)) + 2 for column in zip(*numbers, strict=True)]
    room = WIDTH - sum(widths)

    def line(text: str, costs) -> str:
        cells = (cost.rjust(width) for cost, width in zip(costs, widths, strict=True))
        return (text.ljust(room) + "".join(cells)).rstrip()

    lines = [*textwrap.wrap(steerer.title, WIDTH), *textwrap.wrap(_about(steerer), WIDTH), ""]
    lines += [line("", numbers[0]), line("a guided step", numbers[1])]
    for name, reads, writes, costs in rows:
        first, *more = textwrap.wrap(name, room, subsequent_indent="  ")
        lines += [line(first, costs), *more]
        if reads:
            keys = f"{', '.join(reads)} -> {', '.join(writes)}"
            lines += textwrap.wrap(keys, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def draw_html(steerer: Steerer) -> str:
    """The same as a table for a notebook."""
    head = ["a guided step", "reads", "writes", *HEADS]
    rows = (
        [name, ", ".join(reads), ", ".join(writes), *costs]
        for name, reads, writes, costs in _rows(steerer)
    )
    return html_table(steerer.title, head, rows, _about(steerer))


def _rows(steerer: Steerer) -> Iterator[tuple[str, list[str], list[str], list[str]]]:
    """Name, keys read, keys written and costs of each node, and the sums of these."""
    nodes = _guided(steerer)
    costs = [steerer.cost_of(node) for node in nodes]
    for node, reads, cost in zip(nodes, _reads(nodes), costs, strict=True):
        yield repr(node), reads, node.makes, _numbers(cost)
    yield "one particle, a guided step", [], [], _numbers(sum(costs, Cost()))
    yield "one system, all steps", [], [], _numbers(steerer.cost)


def _about(steerer: Steerer) -> str:
    when = f", guided from t = {steerer.nodes.t_min:g}" if steerer.nodes.t_min > 0 else ""
    steps, particles = _count(steerer.steps, "step"), _count(steerer.nodes.particles, "particle")
    return f"{steps} from noise to data{when}; {particles} a system"


def draw_mermaid(steerer: Steerer) -> str:
    """Nodes, and between them the keys that one writes and another reads."""
    lines = ["flowchart LR", '    given(["steerer"])']
    nodes, writer = _guided(steerer), {}
    for index, (node, reads) in enumerate(zip(nodes, _reads(nodes), strict=True)):
        lines.append(f'    n{index}["{node!r}"]')
        edges: dict[str, list[str]] = {}
        for key in reads:
            edges.setdefault(writer.get(key, "given"), []).append(key)
        for source, keys in edges.items():
            lines.append(f'    {source} -- "{", ".join(keys)}" --> n{index}')
        writer.update(dict.fromkeys(node.makes, f"n{index}"))
    return "\n".join(lines)


def _guided(steerer: Steerer) -> list[Node]:
    """The nodes of the first guided step, or of the first of all, each once."""
    guided = (k for k in range(steerer.steps) if steerer.guides(steerer.times[k]))
    nodes = [node for group in steerer.groups(next(guided, 0)) for node in group]
    return list({id(node): node for node in nodes}.values())


def _reads(nodes: list[Node]) -> list[list[str]]:
    """What each node reads: what it needs, and of what it can use that which a node before made."""
    made: set[str] = set()
    reads = []
    for node in nodes:
        reads.append([*node.needs, *node.may_use(made)])
        made.update(node.makes)
    return reads


def _numbers(cost: Cost) -> list[str]:
    return [str(value) for _, value in cost.items()]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
