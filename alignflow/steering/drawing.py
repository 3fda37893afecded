"""The graph of a steerer as text, and as a Mermaid flowchart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignflow.cost import Cost
from alignflow.graph import Node

if TYPE_CHECKING:
    from .steerer import Steerer

__all__ = ["draw_mermaid", "draw_table"]


def draw_table(steerer: Steerer) -> str:
    """Each node of a guided step: its keys, and its cost for one row of the batch."""
    nodes, particles = _guided(steerer), steerer.nodes.particles
    costs = [steerer.cost_of(node) for node in nodes]
    names = [name.replace("_", " ") for name, _ in Cost().items()]
    table = [["a guided step", "reads", "writes", *names]]
    for node, reads, cost in zip(nodes, _reads(nodes), costs, strict=True):
        keys = [", ".join(reads), ", ".join(node.makes)]
        table.append([repr(node), *keys, *_numbers(cost)])
    table.append(["one particle, a guided step", "", "", *_numbers(sum(costs, Cost()))])
    table.append(["one system, all steps", "", "", *_numbers(steerer.cost)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    steps = _count(steerer.steps, "step")
    when = f", guided from t = {steerer.nodes.t_min:g}" if steerer.nodes.t_min > 0 else ""
    about = f"{steps} from noise to data{when}; {_count(particles, 'particle')} a system"
    return "\n".join([steerer.title, about, "", *lines])


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
