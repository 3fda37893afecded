"""Changing a policy for good: tuners towards the tilt, one file each, and `finetune`."""

from .direct import Direct
from .etm import ETM
from .itm import ITM
from .levels import AdaptiveLevels, EqualLevels
from .memoryless import MemorylessRollout
from .regularizers import EndpointDistance, PathKL
from .rollouts import MapRollout
from .tilt import Tilt
from .tilt_matching import TiltMatching
from .tune import METHODS, finetune
from .tuner import Tuner
from .weighted import Weighted

__all__ = [
    "ETM",
    "ITM",
    "METHODS",
    "AdaptiveLevels",
    "Direct",
    "EndpointDistance",
    "EqualLevels",
    "MapRollout",
    "MemorylessRollout",
    "PathKL",
    "Tilt",
    "TiltMatching",
    "Tuner",
    "Weighted",
    "finetune",
]
