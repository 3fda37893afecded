"""The choices that make a steerer, and the order in which a step runs them."""

from collections.abc import Iterable
from dataclasses import dataclass

from alignflow.cost import Cost
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.posteriors import Posterior, Velocity
from alignflow.resampling import Resampler
from alignflow.reward_module import Reward
from alignflow.transitions import Transition

__all__ = ["FinishedReward", "Group", "Nodes", "check_keys", "step_groups"]

# nodes that run one after the other on the same rows; a gradient reaches back within a group only
Group = tuple[Node, ...]

GIVEN = ("state", "time", "target_time", "step_length", "condition")


@dataclass(frozen=True)
class Nodes:
    """One row of the table of methods: posterior x value x transition x resampler.

    Args:
        transition: Moves the state.
        resampler: Keeps the particles' weights and chooses one of each system in the end.
        posterior: Draws endpoints; None for a method that does not look ahead.
        value: What the endpoints are worth, or where that grows; None likewise.
        correction: How the value's gradient moves the velocity; None if nothing does.
        particles: M, of each system.
        t_min: Steps that start earlier are the base's own: no posterior, no value, no cost of them.
    """

    transition: Transition
    resampler: Resampler
    posterior: Posterior | None = None
    value: Node | None = None
    correction: Node | None = None
    particles: int = 1
    t_min: float = 0.0

    @property
    def differentiates(self) -> bool:
        """Whether the method needs the reward's gradient."""
        return self.value is not None and self.value.differentiates

    def cost_of(self, node: Node) -> Cost:
        """Of one row: a value scores each draw, and its gradient goes back through each forward."""
        if node is not self.value or self.posterior is None:
            return node.cost
        back = self.posterior.cost.nfe if node.differentiates else 0
        return node.cost * self.posterior.draws + Cost(vjps=back)


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

    @property
    def cost(self) -> Cost:
        return Cost(reward_calls=1)

    def forward(self, tensordict):
        state, condition = self.read(tensordict, "state"), self.read(tensordict, "condition")
        reward = self.reward.score(state, condition, self.model.decode)
        return self.write(tensordict, reward=reward)


def step_groups(nodes: Nodes, velocity: Velocity, guided: bool, corrects: bool) -> list[Group]:
    """The groups of one step, in order.

    Args:
        nodes: The choices.
        velocity: Put in where the base velocity is needed and no posterior has written it.
        guided: Whether the step starts at t_min or later.
        corrects: Whether a transition with a corrector takes its second look.
    """
    groups = [
        *_evaluation(nodes, velocity, nodes.transition, guided),
        (nodes.resampler,),
        (nodes.transition,),
    ]
    corrector = nodes.transition.corrector
    if corrector is not None and corrects:
        groups += [*_evaluation(nodes, velocity, corrector, guided), (corrector,)]
    return [group for group in groups if group]


def check_keys(groups: Iterable[Group]) -> None:
    """Refuse a graph in which a node needs a key that none before it makes.

    Raises:
        ValueError: Naming the node, the key and what makes it.
    """
    available: set[str] = set(GIVEN)
    for node in (node for group in groups for node in group):
        for key in node.needs:
            if key not in available:
                raise ValueError(node.lacks(key))
        available.update(node.makes)


def _evaluation(nodes: Nodes, velocity: Velocity, user: Node, guided: bool) -> list[Group]:
    lookahead = (nodes.posterior, nodes.value) if guided else ()
    correction = (nodes.correction,) if guided else ()
    lookahead = tuple(node for node in lookahead if node is not None)
    correction = tuple(node for node in correction if node is not None)
    made = {key for node in lookahead for key in node.makes}
    wanted = {key for node in (*correction, user) for key in node.needs}
    missing = (velocity,) if "velocity" in wanted - made else ()
    return [lookahead, (*missing, *correction)]
