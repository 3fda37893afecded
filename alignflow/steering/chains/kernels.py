"""Kernels of a chain over the noise of a flow map, by what moves the noise."""

from alignflow.flow_map import FlowMap
from alignflow.posteriors import FlowMapPosterior
from alignflow.tilt import Tilt
from alignflow.values import Gradient, Value

from .acceptance import SourceAcceptance
from .adaptation import Adaptation
from .crank_nicolson import CrankNicolson, MoveRatio
from .nodes import ChainNodes
from .slices import Ellipse, SliceAcceptance

__all__ = ["langevin_kernel", "random_walk_kernel", "slice_kernel"]


def slice_kernel(
    model: FlowMap, tilt: Tilt, jumps: int, particles: int, tries: int = 32
) -> ChainNodes:
    """Elliptical slices; a row whose bracket has shrunk `tries` times stays where it is."""
    endpoint = FlowMapPosterior(model, jumps)
    return ChainNodes(
        tilt=tilt,
        first=endpoint,
        proposal=Ellipse(tilt),
        lookahead=(endpoint, Value(model, tilt)),
        acceptance=(SliceAcceptance(tilt),),
        carries=("source",),
        tries=tries,
        particles=particles,
    )


def random_walk_kernel(
    model: FlowMap,
    tilt: Tilt,
    jumps: int,
    particles: int,
    step_size: float | None = None,
    acceptance: float | None = None,
) -> ChainNodes:
    """Preconditioned Crank-Nicolson, of a step size, or of random ones, adapted or not."""
    endpoint = FlowMapPosterior(model, jumps)
    return ChainNodes(
        tilt=tilt,
        first=endpoint,
        proposal=CrankNicolson(step_size),
        lookahead=(endpoint, Value(model, tilt)),
        acceptance=(SourceAcceptance(tilt),),
        carries=("source",),
        adaptation=_adaptation(step_size, acceptance),
        particles=particles,
    )


def langevin_kernel(
    model: FlowMap,
    tilt: Tilt,
    jumps: int,
    particles: int,
    step_size: float | None = None,
    acceptance: float | None = None,
) -> ChainNodes:
    """The same along the gradient of the tilt."""
    endpoint = FlowMapPosterior(model, jumps)
    return ChainNodes(
        tilt=tilt,
        first=endpoint,
        proposal=CrankNicolson(step_size),
        lookahead=(endpoint, Gradient(model, tilt)),
        acceptance=(MoveRatio(), SourceAcceptance(tilt)),
        carries=("source", "source_gradient"),
        adaptation=_adaptation(step_size, acceptance),
        particles=particles,
    )


def _adaptation(step_size: float | None, acceptance: float | None) -> Adaptation | None:
    if acceptance is None:
        return None
    if step_size is not None:
        raise ValueError(
            f"acceptance={acceptance:g} adapts step sizes that are drawn at random, and beside "
            f"step_size={step_size:g} it would do nothing: give one of the two"
        )
    return Adaptation(acceptance)
