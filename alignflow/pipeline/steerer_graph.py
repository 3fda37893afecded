"""The graph of a steerer as data, for the report."""

from alignflow.results import Graph, GraphEdge, GraphNode
from alignflow.steering import Steerer
from alignflow.steering.drawing import _about, _guided, _reads

__all__ = ["graph_of"]


def graph_of(steerer: Steerer) -> Graph:
    """Nodes of a guided step, and between them the keys that one writes and another reads."""
    nodes, edges, writer = _guided(steerer), [], {}
    reads = _reads(nodes)
    for target, (node, keys) in enumerate(zip(nodes, reads, strict=True)):
        sources: dict[int | None, list[str]] = {}
        for key in keys:
            sources.setdefault(writer.get(key), []).append(key)
        edges += [GraphEdge(source, target, found) for source, found in sources.items()]
        writer |= dict.fromkeys(node.makes, target)
    described = [
        GraphNode(repr(node), keys, list(node.makes), dict(steerer.cost_of(node).items()))
        for node, keys in zip(nodes, reads, strict=True)
    ]
    return Graph(steerer.title, described, edges, _about(steerer))
