r"""Trust regions: how far towards the tilt a stage goes from the paths that it has.

.. math:: w = e^{\lambda r - \ell}, \qquad q_\kappa \propto w^\kappa p_\theta, \qquad
    \kappa = \frac{1}{1 + \mu} \in [0, 1]

w is the tilt's density of paths over the model's. Of all distributions of paths within a KL of
epsilon of the model's, q is the one nearest to the tilt in KL, with the multiplier mu of the dual

.. math:: \min_{\mu \ge 0} \; (1 + \mu) \log \mathbb{E}_\theta\, w^{1/(1+\mu)} + \mu\, \epsilon

where KL(q | p) is epsilon, or mu is 0. A bound on the effective sample size of the weights is the
same with another measure of distance. Either grows with kappa, which is found by bisection.

Sources: trust-region constrained SOC (2508.12511); PDNS (2510.03824), whose proximal point is q.
"""

from typing import Any, cast

from scipy.optimize import brentq
from torch import Tensor

from alignflow import checks
from alignflow.metrics.groups import ess_fraction, kl_from_uniform, normalize_by_group

__all__ = ["ESSRegion", "KLRegion", "TrustRegion", "as_trust_region"]


class ESSRegion:
    """Weights that leave enough of the paths effective.

    Args:
        ess_fraction: Effective sample size over the number of paths, at least.
    """

    def __init__(self, ess_fraction: float = 0.5):
        self.ess_fraction = checks.fraction("ess_fraction", ess_fraction, zero=False, one=False)

    def exponent(self, log_weight: Tensor, groups: Tensor) -> float:
        """kappa of log-weights (N,), -inf for dropped ones, in groups (N,): the worst counts."""

        def excess(exponent: float) -> float:
            weights = normalize_by_group(_power(log_weight, exponent), groups)
            return ess_fraction(weights, groups).item() - self.ess_fraction

        return _largest(excess)


class KLRegion:
    """Weights whose distribution of paths is within a KL of the model's.

    Args:
        radius: epsilon, in nats.
    """

    def __init__(self, radius: float = 0.5):
        self.radius = checks.positive("radius", radius)

    def exponent(self, log_weight: Tensor, groups: Tensor) -> float:
        """kappa of log-weights (N,), -inf for dropped ones, in groups (N,): the worst counts."""

        def excess(exponent: float) -> float:
            weights = normalize_by_group(_power(log_weight, exponent), groups)
            return self.radius - kl_from_uniform(weights, groups).item()

        return _largest(excess)


TrustRegion = ESSRegion | KLRegion


def as_trust_region(name: str, value: Any) -> TrustRegion | None:
    """A trust region; None goes to the tilt at once."""
    if value is None:
        return None
    return checks.offers(name, value, ("exponent",), "ESSRegion(), KLRegion() or None")


def _power(log_weight: Tensor, exponent: float) -> Tensor:
    """Log-weights to a power, of which 0 leaves dropped ones out."""
    dropped = log_weight == -float("inf")
    return (exponent * log_weight).masked_fill(dropped, -float("inf"))


def _largest(excess: Any) -> float:
    """The largest exponent at which there is no want of anything."""
    if excess(1.0) >= 0:
        return 1.0
    if excess(0.0) <= 0:  # of dropped paths alone
        return 0.0
    return cast(float, brentq(excess, 0.0, 1.0))
