"""Changing a policy for good: tuners towards the tilt, one file each, and `finetune`."""

from .direct import Direct
from .memoryless import MemorylessRollout
from .regularizers import EndpointDistance, PathKL
from .rollouts import MapRollout
from .tune import METHODS, finetune
from .tuner import Tuner
from .weighted import Weighted

__all__ = [
    "METHODS",
    "Direct",
    "EndpointDistance",
    "MapRollout",
    "MemorylessRollout",
    "PathKL",
    "Tuner",
    "Weighted",
    "finetune",
]
