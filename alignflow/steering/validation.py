"""Which choices go together: combinations that make no sense are refused with the reason."""

from alignflow.corrections import TiltCorrection
from alignflow.graph import Node
from alignflow.posteriors import Posterior
from alignflow.resampling import AdaptiveResampling, Resampler
from alignflow.transitions import SDE, Transition
from alignflow.values import Estimator

__all__ = ["check_choices"]


def check_choices(
    posterior: Posterior | None,
    value: Estimator | None,
    corrections: tuple[Node, ...],
    transition: Transition,
    resampler: Resampler,
    t_min: float,
    t_max: float,
) -> None:
    """Refuse choices that do not go together; the arguments are those of `Nodes`.

    Raises:
        ValueError: Naming the two, and what would do.
    """
    if value is not None:
        _check_value(value, posterior)
    if t_min == 0 and any(isinstance(node, TiltCorrection) for node in corrections):
        raise ValueError(
            "c_t = (1-t)/t diverges at time 0: take t_min above 0, or the value 'gradient_free', "
            "which needs no c_t"
        )
    corrects = bool(corrections) or (value is not None and "correction" in value.makes)
    if corrects and not transition.corrects:
        raise ValueError(
            f"{transition!r} draws the base's next state and takes no correction: use the value "
            "'value', which only weighs, or another transition"
        )
    if not isinstance(resampler, AdaptiveResampling):
        return
    if value is None:
        raise ValueError(f"{resampler!r} weighs particles by their value: choose one")
    if t_min > 0 or t_max < 1:
        raise ValueError(
            f"{resampler!r} needs the value at every step, so t_min and t_max must be 0 and 1, "
            f"got {t_min} and {t_max}"
        )
    silent = (
        isinstance(transition, SDE) and transition.noise_fraction == 0 and not transition.data_std
    )
    if resampler.weighs_moves and corrects and (silent or not transition.has_density):
        raise ValueError(
            f"{resampler!r} must know the density of a corrected move, and {transition!r} has "
            "none: use the transition 'sde' with noise, or 'anchored'"
        )


def _check_value(value: Estimator, posterior: Posterior | None) -> None:
    if "endpoint" not in value.needs:
        return
    if posterior is None:
        raise ValueError(f"{value!r} needs endpoints: choose a posterior, got None")
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
