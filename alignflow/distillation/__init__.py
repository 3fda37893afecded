"""Learning flow maps from data or from a teacher."""

from alignflow.regressions import CrossEntropy, Damped, Huber, SquaredError

from .cross_entropy_times import CrossEntropyTimes, cross_entropy
from .decoding_times import DecodingTimes
from .energy_score import EnergyScore
from .logit_rules import LogitESD, LogitLSD
from .loss import FlowMapLoss, build_loss
from .posterior import learn_posterior
from .pretrain import pretrain
from .rules import ESD, LSD, PSD, Learner
from .student import student
from .target_score import TargetScoreLoss
from .times import LogitNormalTimes, UniformTimes
from .trajectory import Trajectory
from .value import learn_value
from .weight import LossWeight

__all__ = [
    "ESD",
    "LSD",
    "PSD",
    "CrossEntropy",
    "CrossEntropyTimes",
    "Damped",
    "DecodingTimes",
    "EnergyScore",
    "FlowMapLoss",
    "Huber",
    "Learner",
    "LogitESD",
    "LogitLSD",
    "LogitNormalTimes",
    "LossWeight",
    "SquaredError",
    "TargetScoreLoss",
    "Trajectory",
    "UniformTimes",
    "build_loss",
    "cross_entropy",
    "learn_posterior",
    "learn_value",
    "pretrain",
    "student",
]
