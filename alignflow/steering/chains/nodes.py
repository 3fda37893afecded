"""The nodes of a Markov chain over finished samples, bound to a model and a tilt."""

from dataclasses import dataclass
from functools import cached_property

from alignflow import checks
from alignflow.graph import Node
from alignflow.posteriors import FlowMapPosterior
from alignflow.resampling import Resampler, Single
from alignflow.tilt import Tilt

from ..step import Group
from .adaptation import Adaptation
from .population import Population
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
        population: Of several particles a system, and how they interact; None for one.
    """

    tilt: Tilt
    first: FlowMapPosterior
    proposal: Node
    lookahead: Group
    acceptance: Group
    carries: tuple[str, ...] = ()
    tries: int = 1
    adaptation: Adaptation | None = None
    population: Population | None = None

    def __post_init__(self):
        checks.count("tries", self.tries)

    @property
    def particles(self) -> int:
        """M, of each system."""
        return 1 if self.population is None else self.population.particles

    @cached_property
    def resampler(self) -> Resampler:
        """Weighs the particles of a system at the end, and chooses its sample."""
        return Single() if self.population is None else self.population

    @property
    def before(self) -> list[Group]:
        """What precedes the moves of a step."""
        return [] if self.population is None else [(self.population,)]

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
        """What follows once a move is accepted or not."""
        return [] if self.adaptation is None else [(self.adaptation,)]

    @property
    def needs_reward_gradient(self) -> bool:
        """Whether the method needs the gradient of the reward."""
        return any(node.needs_reward_gradient for node in self.lookahead)
