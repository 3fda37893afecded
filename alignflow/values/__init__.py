"""Value estimators: the tilt's value at a state, or its gradient, from endpoint draws."""

from .endpoint_ascent import EndpointAscent
from .estimator import Estimator, Running, Value
from .gradient import Gradient, RewardSoftmaxGradient
from .gradient_free import GradientFree
from .tilted_value import score_endpoints, tilted_value

__all__ = [
    "EndpointAscent",
    "Estimator",
    "Gradient",
    "GradientFree",
    "RewardSoftmaxGradient",
    "Running",
    "Value",
    "score_endpoints",
    "tilted_value",
]
