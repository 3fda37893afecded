"""The graph of a guided step as data: its nodes with what they cost, and the keys between them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tensordict import TensorDictBase

from alignflow.cost import Cost, Meter
from alignflow.graph import Node

from .execution import run_group
from .step import Group

__all__ = ["node_costs", "nodes_and_edges"]


def node_costs(
    groups: Sequence[Group],
    tensordict: TensorDictBase,
    micro_batch_size: int | None,
    meter: Meter,
) -> dict[Node, Cost]:
    """What each node of a step costs for one row, counted as they run.

    Args:
        groups: Of the step.
        tensordict: At the start of it.
        micro_batch_size: Rows that go through the model at a time.
        meter: Of the call.
    """
    costs: dict[Node, Cost] = {}
    for group in groups:
        # Heun's step and an ascent on the noise repeat a lookahead
        if not all(node in costs for node in group):
            spent, tensordict = _run_counted(group, tensordict, micro_batch_size, meter)
            rows = len(tensordict)
            costs |= {node: cost // rows for node, cost in zip(group, spent, strict=True)}
    return costs


def _run_counted(
    group: Group, tensordict: TensorDictBase, micro_batch_size: int | None, meter: Meter
) -> tuple[list[Cost], TensorDictBase]:
    """What each node of a group spends, and what the group returns.

    The last node, which may be run in parts, is charged for all that the others do not spend.
    """
    spent, began, before = [Cost() for _ in group], [Cost() for _ in group], meter.total
    handles = []
    for index, node in enumerate(group[:-1]):

        def begin(*_, index=index) -> None:
            began[index] = meter.total

        def end(*_, index=index) -> None:
            spent[index] = spent[index] + meter.total - began[index]

        handles += [node.register_forward_pre_hook(begin), node.register_forward_hook(end)]
    try:
        tensordict = run_group(group, tensordict, micro_batch_size)
    finally:
        for handle in handles:
            handle.remove()
    spent[-1] = meter.total - before - sum(spent[:-1], Cost())
    return spent, tensordict


def nodes_and_edges(costs: Mapping[Node, Cost]) -> dict[str, Any]:
    """`nodes` and `edges` as `Steerer.graph` has them, of nodes with their costs."""
    nodes = list(costs)
    reads = _reads(nodes)
    return {
        "nodes": [
            {"name": repr(node), "reads": keys, "writes": node.makes, "cost": asdict(cost)}
            for (node, cost), keys in zip(costs.items(), reads, strict=True)
        ],
        "edges": _edges(nodes, reads),
    }


def _reads(nodes: Sequence[Node]) -> list[list[str]]:
    """What each node reads: what it needs, and of what it can use that which a node before made."""
    made: set[str] = set()
    reads = []
    for node in nodes:
        reads.append([*node.needs, *node.may_use(made)])
        made.update(node.makes)
    return reads


def _edges(nodes: Sequence[Node], reads: Sequence[list[str]]) -> list[dict[str, Any]]:
    """From the last writer of a key to each reader; the source None is the steerer itself."""
    edges, writer = [], {}
    for target, (node, read) in enumerate(zip(nodes, reads, strict=True)):
        keys: dict[int | None, list[str]] = {}
        for key in read:
            keys.setdefault(writer.get(key), []).append(key)
        edges += [
            {"source": source, "target": target, "keys": passed} for source, passed in keys.items()
        ]
        writer.update(dict.fromkeys(node.makes, target))
    return edges
