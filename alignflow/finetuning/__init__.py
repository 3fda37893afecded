"""Changing a policy for good: the problem, the methods in three families, and the run.

`problem` says what is tuned and to which tilt, a method (`pools`, `rollouts`, `policy_gradient`) is
a value that, bound to a problem, gives a loss, and `runs` has what carries it out and watches it.
"""

from .policy_gradient.grpo import GRPO
from .pools.mfm import MFM
from .pools.pooled import PooledMethod, PooledTuner
from .pools.tilt_matching import ETM, ITM, TiltMatching
from .pools.velocity_matching import VelocityMatching, VelocityMatchingTuner
from .pools.weighted import Weighted
from .problem import Problem
from .registry import METHODS, MethodName
from .rollouts.adjoint_matching import AdjointMatching
from .rollouts.direct import Direct
from .rollouts.memoryless import MemorylessRollout
from .rollouts.ode import ODERollout
from .rollouts.paths import MapRollout
from .rollouts.regularizers import MMD, EndpointDistance, EndpointKL, PathKL
from .runs.annealing import AdaptiveStages, EqualStages
from .runs.langevin import Langevin
from .runs.runaway import RunawayError
from .tune import finetune, keywords
from .tuner import Method, Tuner

__all__ = [
    "ETM",
    "GRPO",
    "ITM",
    "MFM",
    "METHODS",
    "MMD",
    "AdaptiveStages",
    "AdjointMatching",
    "Direct",
    "EndpointDistance",
    "EndpointKL",
    "EqualStages",
    "Langevin",
    "MapRollout",
    "MemorylessRollout",
    "Method",
    "MethodName",
    "ODERollout",
    "PathKL",
    "PooledMethod",
    "PooledTuner",
    "Problem",
    "RunawayError",
    "TiltMatching",
    "Tuner",
    "VelocityMatching",
    "VelocityMatchingTuner",
    "Weighted",
    "finetune",
    "keywords",
]
