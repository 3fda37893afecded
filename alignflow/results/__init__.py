"""What the stages of a run record and its report reads: one definition, one codec.

Each result is a JSON file with its version; `read` opens those of earlier versions too.
"""

from .codec import ReportError, convert, encode, read, read_json, read_json_lines
from .schema import (
    STAGES,
    CalibrationRow,
    EvaluationResult,
    Event,
    FinetuneResult,
    Graph,
    GraphEdge,
    GraphNode,
    Histogram,
    ModelResult,
    ReferenceResult,
    ReportResult,
    ShownTexts,
    StageResult,
    SteerResult,
    StrengthResult,
    TextsResult,
    TiltResult,
    TrainingResult,
    ValueResult,
    WeighedResult,
)

__all__ = [
    "STAGES",
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
    "ReportError",
    "ReportResult",
    "ShownTexts",
    "StageResult",
    "SteerResult",
    "StrengthResult",
    "TextsResult",
    "TiltResult",
    "TrainingResult",
    "ValueResult",
    "WeighedResult",
    "convert",
    "encode",
    "read",
    "read_json",
    "read_json_lines",
]
