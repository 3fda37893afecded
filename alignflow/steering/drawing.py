"""The graph of a steerer as text, as HTML, and as a Mermaid flowchart, from `Steerer.graph()`."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from alignflow.cost import Cost
from alignflow.tables import html_table

__all__ = ["draw_html", "draw_mermaid", "draw_table"]

WIDTH = 80  # columns
COSTS = [name for name, _ in Cost().items()]
HEADS = [name.replace("_", " ") for name in COSTS]

Graph = Mapping[str, Any]


def draw_table(graph: Graph) -> str:
    """Each node of a guided step with its cost for one row of the batch, and its keys below."""
    rows = list(_rows(graph))
    # a heading of two words stands in two lines
    heads = [head.rpartition(" ")[::2] for head in HEADS]
    numbers = [*zip(*heads, strict=True), *(costs for _, _, _, costs in rows)]
    widths = [max(map(len, column)) + 2 for column in zip(*numbers, strict=True)]
    room = WIDTH - sum(widths)

    def line(text: str, costs) -> str:
        cells = (cost.rjust(width) for cost, width in zip(costs, widths, strict=True))
        return (text.ljust(room) + "".join(cells)).rstrip()

    lines = [*textwrap.wrap(graph["title"], WIDTH), *textwrap.wrap(graph["about"], WIDTH), ""]
    lines += [line("", numbers[0]), line("a guided step", numbers[1])]
    for name, reads, writes, costs in rows:
        first, *more = textwrap.wrap(name, room, subsequent_indent="  ")
        lines += [line(first, costs), *more]
        if reads:
            keys = f"{', '.join(reads)} -> {', '.join(writes)}"
            lines += textwrap.wrap(keys, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def draw_html(graph: Graph) -> str:
    """The same as a table for a notebook."""
    head = ["a guided step", "reads", "writes", *HEADS]
    rows = (
        [name, ", ".join(reads), ", ".join(writes), *costs]
        for name, reads, writes, costs in _rows(graph)
    )
    return html_table(graph["title"], head, rows, graph["about"])


def draw_mermaid(graph: Graph) -> str:
    """Nodes, and between them the keys that one writes and another reads."""
    lines = ["flowchart LR", '    given(["steerer"])']
    for index, node in enumerate(graph["nodes"]):
        lines.append(f'    n{index}["{node["name"]}"]')
        for edge in graph["edges"]:
            if edge["target"] == index:
                source = "given" if edge["source"] is None else f"n{edge['source']}"
                lines.append(f'    {source} -- "{", ".join(edge["keys"])}" --> n{index}')
    return "\n".join(lines)


def _rows(graph: Graph) -> Iterator[tuple[str, list[str], list[str], list[str]]]:
    """Name, keys read, keys written and costs of each node, and the sums of these."""
    costs = [node["cost"] for node in graph["nodes"]]
    for node, cost in zip(graph["nodes"], costs, strict=True):
        yield node["name"], node["reads"], node["writes"], _numbers(cost)
    total = {name: sum(cost[name] for cost in costs) for name in COSTS}
    yield "one particle, a guided step", [], [], _numbers(total)
    yield "one system, all steps", [], [], _numbers(graph["cost"])


def _numbers(cost: Mapping[str, int]) -> list[str]:
    return [str(cost[name]) for name in COSTS]
