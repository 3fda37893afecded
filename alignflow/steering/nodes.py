"""The four choices that make a steerer, bound to a model and a tilt."""

from dataclasses import dataclass, field

from alignflow import checks
from alignflow.graph import Node
from alignflow.posteriors import Posterior
from alignflow.resampling import Resampler, Single
from alignflow.transitions import Transition
from alignflow.values import Estimator

from .noise_ascent import NoiseAscent
from .validation import check_choices

__all__ = ["Nodes"]


@dataclass(frozen=True)
class Nodes:
    """One row of the table of methods: posterior x value x transition x resampler.

    Args:
        transition: Moves the state.
        resampler: Weights the particles, and chooses one of each system in the end.
        posterior: Draws endpoints; None for a method without a lookahead.
        value: Estimates the value of the tilt, or its gradient, from the endpoints, or knows it as
            a learned one does; None likewise.
        corrections: From the gradient of the value to a change of the velocity: the first reads the
            gradient, others change what came before. None for a value without a gradient.
        particles: M, of each system.
        t_min: Steps that start earlier are the model's: no value, and no posterior unless the
            transition reads its endpoint.
        t_max: Likewise steps that start then or later.
        ascent: Optimizes the noise before the first step, by posterior and value; the steps are
            then the model's.

    Raises:
        ValueError: If the choices make no sense together.
    """

    transition: Transition
    resampler: Resampler = field(default_factory=Single)
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
        check_choices(
            self.posterior,
            self.value,
            self.corrections,
            self.transition,
            self.resampler,
            self.t_min,
            self.t_max,
        )

    @property
    def needs_reward_gradient(self) -> bool:
        """Whether the method needs the gradient of the reward."""
        return self.value is not None and self.value.needs_reward_gradient
