"""Value estimators: the tilt's value at a state, or its gradient, from endpoint draws."""

from .endpoint_ascent import EndpointAscent
from .estimator import Estimator, Running, Value
from .gradient import Gradient, RewardSoftmaxGradient
from .gradient_free import GradientFree
from .learned import Learned, LearnedGradient, LearnedTilt
from .learned_value import LearnedValue, as_strengths
from .saved import load_value
from .tilted_value import score_endpoints, tilted_value
from .value_function import ValueFunction

__all__ = [
    "EndpointAscent",
    "Estimator",
    "Gradient",
    "GradientFree",
    "Learned",
    "LearnedGradient",
    "LearnedTilt",
    "LearnedValue",
    "RewardSoftmaxGradient",
    "Running",
    "Value",
    "ValueFunction",
    "as_strengths",
    "load_value",
    "score_endpoints",
    "tilted_value",
]
