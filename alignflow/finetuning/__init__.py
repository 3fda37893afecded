"""Changing a policy for good: the problem, the methods in four families, and the run.

`problem` says what is tuned and to which tilt, a method (`pools`, `path_weights`, `rollouts`,
`policy_gradient`) is a value that, bound to a problem, gives a loss, and `runs` has what carries it
out and watches it.
"""

from .mixed import MixedEstimator
from .path_weights.log_variance import LogVariance
from .path_weights.paths import MemorylessPaths
from .path_weights.proximal import Proximal
from .path_weights.trust_region import ESSRegion, KLRegion
from .policy_gradient.grpo import GRPO
from .policy_gradient.rloo import RLOO
from .pools.mfm import MFM
from .pools.nft import NFT
from .pools.pooled import PooledMethod, PooledTuner
from .pools.reinforce import AWM, RAM
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
    "AWM",
    "ETM",
    "GRPO",
    "ITM",
    "MFM",
    "METHODS",
    "MMD",
    "NFT",
    "RAM",
    "RLOO",
    "AdaptiveStages",
    "AdjointMatching",
    "Direct",
    "ESSRegion",
    "EndpointDistance",
    "EndpointKL",
    "EqualStages",
    "KLRegion",
    "Langevin",
    "LogVariance",
    "MapRollout",
    "MemorylessPaths",
    "MemorylessRollout",
    "Method",
    "MethodName",
    "MixedEstimator",
    "ODERollout",
    "PathKL",
    "PooledMethod",
    "PooledTuner",
    "Problem",
    "Proximal",
    "RunawayError",
    "TiltMatching",
    "Tuner",
    "VelocityMatching",
    "VelocityMatchingTuner",
    "Weighted",
    "finetune",
    "keywords",
]
