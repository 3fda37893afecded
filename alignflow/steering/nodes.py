"""The choices that make a steerer, and the order in which a step runs them."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from alignflow import checks
from alignflow.cost import Cost, forwards_of_call
from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.posteriors import Posterior, Velocity
from alignflow.resampling import Resampler
from alignflow.reward_module import Reward
from alignflow.transitions import Transition
from alignflow.values import Estimator

from .choices import check_choices
from .noise_ascent import KeepBest, NoiseAscent

__all__ = ["FinishedReward", "Group", "Nodes", "check_keys", "split_draws", "step_groups"]

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
        corrections: How that moves the velocity: the first from a value gradient, others change
            what came before. None for a value that is only known, or gives the correction itself.
        particles: M, of each system.
        t_min: Steps that start earlier are the base's own: no value, and no posterior but where the
            transition goes by its endpoint.
        t_max: Nor have steps that start then or later.
        ascent: Climbs in the noise before the first step, by posterior and value; the steps are
            then the base's own.

    Raises:
        ValueError: If the choices make no sense together.
    """

    transition: Transition
    resampler: Resampler
    posterior: Posterior | None = None
    value: Estimator | None = None
    corrections: tuple[Node, ...] = ()
    particles: int = 1
    t_min: float = 0.0
    t_max: float = 1.0
    ascent: NoiseAscent | None = None

    def __post_init__(self):
        checks.count("particles", self.particles)
        if checks.fraction("t_min", self.t_min) >= checks.fraction("t_max", self.t_max):
            raise ValueError(f"t_min must be below t_max, got {self.t_min} and {self.t_max}")
        check_choices(self)

    @property
    def climbs(self) -> bool:
        """Whether the method needs the reward's gradient."""
        return self.value is not None and self.value.climbs

    @property
    def corrects(self) -> bool:
        """Whether anything moves the velocity."""
        return bool(self.corrections) or (
            self.value is not None and "correction" in self.value.makes
        )

    def cost_of(self, node: Node, most_draws: int | None = None) -> Cost:
        """Of one row, its draws taken so many at a time: a value scores each of them, and a
        gradient goes back through the posterior's forwards."""
        if self.posterior is None or node not in (self.posterior, self.value):
            return node.cost
        parts = split_draws(self.posterior.draws, most_draws)
        if node is self.posterior:
            return sum((self.posterior.cost_of(part) for part in parts), Cost())
        assert self.value is not None
        back = self.value.backwards(self.posterior, parts)
        vjps = back * forwards_of_call(self.posterior.model)
        return node.cost * self.posterior.draws + Cost(vjps=vjps)


def split_draws(draws: int, most: int | None) -> list[int]:
    """Draws as parts of at most so many."""
    if most is None or most >= draws:
        return [draws]
    whole, rest = divmod(draws, most)
    return [most] * whole + [rest] * (rest > 0)


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


class Uncorrected(Node):
    """Takes a correction back, for a move that must be the base's own."""

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
        velocity: Put in where the base velocity is needed and no posterior has written it.
        guided: Whether the step starts between t_min and t_max.
        first: Whether the step starts from noise.
        last: Whether it ends at time 1.
        noisy: Whether the base's own move has noise.
    """
    posterior = () if nodes.posterior is None else (nodes.posterior,)
    lookahead: Group = posterior if nodes.value is None else (*posterior, nodes.value)
    groups: list[Group] = []
    if nodes.ascent is not None:
        guided = False
        if first:
            groups += [lookahead, (nodes.ascent,)] * nodes.ascent.iterations + [(KeepBest(),)]
    if not guided:
        # a straight line leads to the lookahead's endpoint, whatever that is worth
        lookahead = posterior if "endpoint" in nodes.transition.needs else ()
    # a move without noise has no density: particles that are weighed by it are not corrected there
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


def check_keys(groups: Iterable[Group]) -> None:
    """Refuse a graph in which a node needs a key that none before it makes.

    Raises:
        ValueError: Naming the node, the key and what makes it.
    """
    available: set[str] = set(GIVEN)
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
