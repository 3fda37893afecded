"""Kernels of a chain over the noise of a flow map, by what moves the noise."""

from typing import Any

from alignflow.flow_map import FlowMap
from alignflow.graph import Node
from alignflow.posteriors import FlowMapPosterior
from alignflow.tilt import Tilt
from alignflow.values import Gradient, Value

from .acceptance import SourceAcceptance
from .adaptation import Adaptation
from .crank_nicolson import CrankNicolson, MoveRatio
from .nodes import ChainNodes
from .slices import Ellipse, SliceAcceptance

__all__ = ["langevin_kernel", "random_walk_kernel", "slice_kernel"]


def slice_kernel(model: FlowMap, tilt: Tilt, jumps: int, tries: int = 32) -> ChainNodes:
    """Elliptical slices; a row whose bracket has shrunk `tries` times stays where it is."""
    return _over_noise(
        FlowMapPosterior(model, jumps),
        Value(model, tilt),
        tilt=tilt,
        proposal=Ellipse(tilt),
        acceptance=(SliceAcceptance(tilt),),
        tries=tries,
    )


def random_walk_kernel(
    model: FlowMap,
    tilt: Tilt,
    jumps: int,
    step_size: float | None = None,
    acceptance: float | None = None,
) -> ChainNodes:
    """Preconditioned Crank-Nicolson, of a step size, or of random ones, adapted or not."""
    return _over_noise(
        FlowMapPosterior(model, jumps),
        Value(model, tilt),
        tilt=tilt,
        proposal=CrankNicolson(step_size),
        acceptance=(SourceAcceptance(tilt),),
        adaptation=_adaptation(step_size, acceptance),
    )


def langevin_kernel(
    model: FlowMap,
    tilt: Tilt,
    jumps: int,
    step_size: float | None = None,
    acceptance: float | None = None,
) -> ChainNodes:
    """The same along the gradient of the tilt."""
    return _over_noise(
        FlowMapPosterior(model, jumps),
        Gradient(model, tilt),
        tilt=tilt,
        proposal=CrankNicolson(step_size),
        acceptance=(MoveRatio(), SourceAcceptance(tilt)),
        carries=("source", "source_gradient"),
        adaptation=_adaptation(step_size, acceptance),
    )


def _over_noise(
    endpoint: FlowMapPosterior,
    value: Node,
    carries: tuple[str, ...] = ("source",),
    **nodes: Any,
) -> ChainNodes:
    """A chain whose samples, the first and those proposed, are what the map makes of noise."""
    return ChainNodes(first=endpoint, lookahead=(endpoint, value), carries=carries, **nodes)


def _adaptation(step_size: float | None, acceptance: float | None) -> Adaptation | None:
    if acceptance is None:
        return None
    if step_size is not None:
        raise ValueError(
            f"acceptance={acceptance:g} adapts step sizes that are drawn at random, and beside "
            f"step_size={step_size:g} it would do nothing: give one of the two"
        )
    return Adaptation(acceptance)
