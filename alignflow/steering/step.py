"""The order in which a step runs its nodes, and the keys that they pass on."""

from collections.abc import Iterable

import torch

from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.posteriors import Velocity
from alignflow.reward_module import Reward

from .nodes import Nodes
from .noise_ascent import KeepBest

__all__ = ["FinishedReward", "Group", "check_keys", "step_groups"]

# nodes that run one after the other on the same rows; a gradient reaches back within a group only
Group = tuple[Node, ...]

GIVEN = ("state", "time", "target_time", "step_length", "condition")


class FinishedReward(Node):
    """The reward of finished samples.

    Args:
        model: Decodes the samples.
        reward: Scores them.
    """

    reads = ("state",)
    optional = ("condition",)
    writes = ("reward",)

    def __init__(self, model: FlowMap, reward: Reward):
        super().__init__()
        self.model = model
        self.reward = reward

    def forward(self, tensordict):
        state, condition = self.read(tensordict, "state"), self.read(tensordict, "condition")
        reward = self.reward.score(state, condition, self.model.decode)
        return self.write(tensordict, reward=reward)


class Uncorrected(Node):
    """Sets a correction to 0, for a move that must be the model's."""

    reads = ("correction",)
    writes = ("correction",)

    def forward(self, tensordict):
        return self.write(
            tensordict, correction=torch.zeros_like(self.read(tensordict, "correction"))
        )


def step_groups(
    nodes: Nodes,
    velocity: Velocity,
    guided: bool,
    first: bool = False,
    last: bool = False,
    noisy: bool = True,
) -> list[Group]:
    """The groups of one step, in order.

    Args:
        nodes: The choices.
        velocity: Inserted where the model's velocity is needed and no posterior has written it.
        guided: Whether the step starts between t_min and t_max.
        first: Whether the step starts from noise.
        last: Whether it ends at time 1.
        noisy: Whether the move of the model has noise.
    """
    posterior = () if nodes.posterior is None else (nodes.posterior,)
    lookahead: Group = posterior if nodes.value is None else (*posterior, nodes.value)
    groups: list[Group] = []
    if nodes.ascent is not None:
        guided = False
        if first:
            groups += [lookahead, (nodes.ascent,)] * nodes.ascent.iterations + [(KeepBest(),)]
    if not guided:
        # a straight line leads to the lookahead's endpoint, guided or not
        lookahead = posterior if "endpoint" in nodes.transition.needs else ()
    # a move without noise has no density: particles that are weighted by it are not corrected there
    bare = not noisy and nodes.resampler.weighs_moves
    corrections = nodes.corrections if guided and not bare else ()
    if bare and any("correction" in node.makes for node in lookahead):
        corrections = (Uncorrected(),)
    groups += _evaluation(lookahead, corrections, velocity, nodes.transition)
    groups += [(nodes.resampler,), (nodes.transition,)]
    corrector = nodes.transition.corrector
    if corrector is not None and not last:
        groups += [*_evaluation(lookahead, corrections, velocity, corrector), (corrector,)]
    return [group for group in groups if group]


def check_keys(groups: Iterable[Group], given: Iterable[str] = GIVEN) -> None:
    """Refuse a graph in which a node needs a key that no node before it makes.

    Args:
        groups: Of a step.
        given: Keys that are there at its start.

    Raises:
        ValueError: Naming the node, the key and what makes it.
    """
    available: set[str] = set(given)
    for node in (node for group in groups for node in group):
        available.update(node.noise)
        for key in node.needs:
            if key not in available:
                raise ValueError(node.lacks(key))
        available.update(node.makes)


def _evaluation(
    lookahead: Group, corrections: Group, velocity: Velocity, user: Node
) -> list[Group]:
    made = {key for node in lookahead for key in node.makes}
    wanted = {key for node in (*corrections, user) for key in node.needs}
    missing = (velocity,) if "velocity" in wanted - made else ()
    return [lookahead, (*missing, *corrections)]
