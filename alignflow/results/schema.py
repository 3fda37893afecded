"""What each stage of a run records."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from alignflow.metrics.estimate import Estimate, Finite, Interval
from alignflow.metrics.tilt_check import TiltCheck

__all__ = [
    "STAGES",
    "VERSION",
    "CalibrationRow",
    "EvaluationResult",
    "Event",
    "FinetuneResult",
    "Graph",
    "GraphEdge",
    "GraphNode",
    "Histogram",
    "ModelResult",
    "ReferenceResult",
    "ReportResult",
    "ShownTexts",
    "StageResult",
    "SteerResult",
    "TextsResult",
    "TiltResult",
    "TrainingResult",
    "ValueResult",
    "WeighedResult",
]

VERSION = 1

Text = Annotated[str, Meta(min_length=1, description="a text")]
Event = Literal["image", "points", "other"]
Rewards = Annotated[list[Finite], Meta(min_length=1, description="at least one reward")]


class ModelResult(msgspec.Struct, frozen=True):
    """One model's judged samples; costs are per sample."""

    name: Text
    rewards: Rewards
    mean_reward: Estimate
    dropped: int = 0
    """Samples that the reward dropped; `rewards` has none of them."""
    rates: dict[str, Interval] = {}
    """Fractions of the samples that hold each label of the judge."""
    held_out: dict[str, Estimate] = {}
    diversity: Estimate | None = None
    distance_to_base: dict[str, Estimate] = {}
    cost: dict[str, Finite] = {}
    tilt_check: TiltCheck | None = None
    """Whether the samples reached the tilt; None of the base, without a tilt, and in results of
    earlier versions."""


class TiltResult(msgspec.Struct, frozen=True):
    """What the exact tilt would give, by reweighting base samples, `ess` of their weights.

    The tilt of a known list is exact without samples, and then `ess` is None.
    """

    name: Text
    mean_reward: Estimate
    ess: Finite | None
    rates: dict[str, Interval] = {}


class Histogram(msgspec.Struct, frozen=True):
    """Fractions of the samples in each bin, by model, the reference among them."""

    edges: list[Finite]
    fractions: dict[str, list[Finite]]


class ShownTexts(msgspec.Struct, frozen=True):
    """Texts that a model drew, in the order drawn, with the rewards of those that have one."""

    name: Text
    texts: list[str]
    rewards: list[Finite | None]


class WeighedResult(msgspec.Struct, frozen=True):
    """n samples of a model as they are, and weighed by the reference's density over the model's.

    They are drawn in so many jumps, or by the ODE if `steps` is None.
    """

    n: int
    mean_reward: Estimate
    distances: dict[str, Estimate]
    ess_fraction: Finite
    weighed_reward: Estimate
    steps: int | None = None


class ReferenceResult(msgspec.Struct, frozen=True):
    """Samples of the distribution aimed at, and how near each model, by name, comes to them."""

    mean_reward: Estimate
    distances: dict[str, dict[str, Estimate]]
    histograms: dict[str, Histogram]
    weighed: dict[str, WeighedResult]


class StageResult(msgspec.Struct, frozen=True):
    """What a finished stage records."""

    version: int = VERSION


class TrainingResult(StageResult, frozen=True, kw_only=True):
    """Of a stage that trains."""

    steps: int
    seconds: Finite


class FinetuneResult(TrainingResult, frozen=True, kw_only=True):
    """With what tuning asked of the reward, the monitor's calls among them."""

    reward_calls: int
    reward_vjps: int


class CalibrationRow(msgspec.Struct, frozen=True):
    """Of a learned value on held-out samples: the ratio is the mean of e^{strength r - V}, or 1."""

    time: Finite
    strength: Finite
    ratio: Finite
    ratio_error: Finite
    correlation: Finite | None
    explained_variance: Finite | None


class ValueResult(TrainingResult, frozen=True, kw_only=True):
    """Of a learned value; each of its samples was scored once."""

    samples: int
    calibration: list[CalibrationRow]


class SteerResult(StageResult, frozen=True, kw_only=True):
    """Of n steered samples."""

    method: Text
    n: int
    mean_reward: Finite
    seconds: Finite


class EvaluationResult(StageResult, frozen=True, kw_only=True):
    """Every model of a run judged alike; `strength` is 0 where no method aims at a tilt."""

    models: list[ModelResult]
    tilt: TiltResult | None = None
    reference: ReferenceResult | None = None
    reward_name: Text
    strength: Finite
    event: Event


class TextsResult(StageResult, frozen=True, kw_only=True):
    """Texts of each model, from the same noise, and of the exact tilt where it can be drawn."""

    kind: Literal["text", "molecules"]
    shown: list[ShownTexts]


class ReportResult(StageResult, frozen=True, kw_only=True):
    """The page's file name."""

    page: Text


STAGES: dict[str, type[StageResult]] = {
    "pretrain": TrainingResult,
    "learn_posterior": TrainingResult,
    "learn_value": ValueResult,
    "finetune": FinetuneResult,
    "steer": SteerResult,
    "evaluate": EvaluationResult,
    "report": ReportResult,
}


class GraphNode(msgspec.Struct, frozen=True):
    """A node of the steering graph, its keys, and its cost for one row, by name."""

    name: Text
    reads: list[str]
    writes: list[str]
    cost: dict[str, Finite] = {}


class GraphEdge(msgspec.Struct, frozen=True):
    """Keys from one node to a later one, by index; the source None is the steerer itself."""

    source: int | None
    target: int
    keys: list[str]


class Graph(msgspec.Struct, frozen=True):
    """The nodes of a guided step in the order in which they run, and the keys between them."""

    title: str
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    about: str = ""
