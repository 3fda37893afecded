"""Changing a policy for good: tuners towards the tilt, one file each, and `finetune`."""

from .adjoint_matching import AdjointMatching
from .direct import Direct
from .etm import ETM
from .grpo import GRPO
from .itm import ITM
from .langevin import Langevin
from .levels import AdaptiveLevels, EqualLevels
from .memoryless import MemorylessRollout
from .mfm import MFM
from .ode_rollout import ODERollout
from .regularizers import MMD, EndpointDistance, EndpointKL, PathKL
from .rollouts import MapRollout
from .runaway import RunawayError
from .tilt import Tilt
from .tilt_matching import TiltMatching
from .tune import METHODS, finetune
from .tuner import Tuner
from .weighted import Weighted

__all__ = [
    "ETM",
    "GRPO",
    "ITM",
    "MFM",
    "METHODS",
    "MMD",
    "AdaptiveLevels",
    "AdjointMatching",
    "Direct",
    "EndpointDistance",
    "EndpointKL",
    "EqualLevels",
    "Langevin",
    "MapRollout",
    "MemorylessRollout",
    "ODERollout",
    "PathKL",
    "RunawayError",
    "Tilt",
    "TiltMatching",
    "Tuner",
    "Weighted",
    "finetune",
]
