"""Which choices go together: combinations that make no sense are refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignflow.corrections import Tilt
from alignflow.resampling import AdaptiveResampling
from alignflow.transitions import SDE

if TYPE_CHECKING:
    from .nodes import Nodes

__all__ = ["check_choices"]


def check_choices(nodes: Nodes) -> None:
    """Refuse choices that do not go together.

    Raises:
        ValueError: Naming the two, and what would do.
    """
    posterior, value, transition = nodes.posterior, nodes.value, nodes.transition
    if value is not None and posterior is None:
        raise ValueError(f"{value!r} needs endpoints: choose a posterior, got None")
    if value is not None and posterior is not None:
        if value.differentiates and not posterior.smooth:
            raise ValueError(
                f"{value!r} cannot differentiate the draws of {posterior!r}, which are no smooth "
                "function of the state: use the value 'gradient_free'"
            )
        if posterior.draws < value.least_draws:
            raise ValueError(
                f"{value!r} compares draws with each other and needs at least "
                f"{value.least_draws} of them, got draws={posterior.draws}"
            )
    if nodes.t_min == 0 and any(isinstance(node, Tilt) for node in nodes.corrections):
        raise ValueError(
            "c_t = (1-t)/t diverges at time 0: take t_min above 0, or the value 'gradient_free', "
            "which needs no c_t"
        )
    if nodes.corrects and not transition.corrects:
        raise ValueError(
            f"{transition!r} draws the base's next state and takes no correction: use the value "
            "'value', which only weighs, or another transition"
        )
    if isinstance(nodes.resampler, AdaptiveResampling):
        _check_weighing(nodes)


def _check_weighing(nodes: Nodes) -> None:
    transition, resampler = nodes.transition, nodes.resampler
    if nodes.value is None:
        raise ValueError(f"{resampler!r} weighs particles by their value: choose one")
    if nodes.t_min > 0 or nodes.t_max < 1:
        raise ValueError(
            f"{resampler!r} needs the value at every step, so t_min and t_max must be 0 and 1, "
            f"got {nodes.t_min} and {nodes.t_max}"
        )
    if not resampler.weighs_moves or not nodes.corrects:
        return
    silent = isinstance(transition, SDE) and transition.noise_fraction == transition.data_std == 0.0
    if silent or not transition.has_density:
        raise ValueError(
            f"{resampler!r} must know the density of a corrected move, and {transition!r} has "
            "none: use the transition 'sde' with noise, or 'anchored'"
        )
