"""The nodes of a Markov chain over finished samples, bound to a model and a tilt."""

from dataclasses import dataclass

from alignflow import checks
from alignflow.graph import Node
from alignflow.posteriors import FlowMapPosterior
from alignflow.tilt import Tilt

from ..step import Group
from .adaptation import Adaptation
from .exchange import Exchange
from .start import FirstSample

__all__ = ["ChainNodes"]


@dataclass(frozen=True)
class ChainNodes:
    """A chain: from noise to a first sample of the base, then proposals that are accepted or not.

    Args:
        tilt: Weighs the samples.
        first: Carries noise to the first sample.
        proposal: From the current sample to a `state` at a `time`, which the lookahead reads.
        lookahead: Proposes endpoints of that state, and scores them.
        acceptance: One or several nodes: the last writes the next sample, and `accepted`.
        carries: Keys beside `state` and `reward` that belong to a sample.
        tries: How often a row that is not accepted proposes anew in a step.
        adaptation: Of the moves to a fraction that is accepted; None leaves them as they are.
        particles: M of each system: replicas at strengths from 0 to the tilt's, which exchange.
    """

    tilt: Tilt
    first: FlowMapPosterior
    proposal: Node
    lookahead: Group
    acceptance: Group
    carries: tuple[str, ...] = ()
    tries: int = 1
    adaptation: Adaptation | None = None
    particles: int = 1

    def __post_init__(self):
        checks.count("particles", self.particles)
        checks.count("tries", self.tries)

    @property
    def start(self) -> list[Group]:
        """From noise to the first sample and its reward."""
        return [(self.first, self.lookahead[-1]), (FirstSample(),)]

    @property
    def attempt(self) -> list[Group]:
        """One proposal, and whether it is accepted."""
        return [(self.proposal,), self.lookahead, self.acceptance]

    @property
    def after(self) -> list[Group]:
        """What follows once a move is accepted or not: adaptation, and exchange of replicas."""
        adaptation: list[Group] = [] if self.adaptation is None else [(self.adaptation,)]
        if self.particles == 1:
            return adaptation
        return [*adaptation, (Exchange(self.tilt, self.particles, self.carries),)]

    @property
    def needs_reward_gradient(self) -> bool:
        """Whether the method needs the gradient of the reward."""
        return any(node.needs_reward_gradient for node in self.lookahead)
