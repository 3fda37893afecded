"""Learning flow maps from data or from a teacher."""

from .loss import FlowMapLoss, LossWeight, build_loss
from .posterior import learn_posterior
from .pretrain import pretrain
from .rules import ESD, LSD, PSD
from .student import student
from .times import LogitNormalTimes, UniformTimes

__all__ = [
    "ESD",
    "LSD",
    "PSD",
    "FlowMapLoss",
    "LogitNormalTimes",
    "LossWeight",
    "UniformTimes",
    "build_loss",
    "learn_posterior",
    "pretrain",
    "student",
]
