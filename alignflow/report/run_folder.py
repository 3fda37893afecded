"""What a run left in its folder, read once and checked, so that the page can trust it.

config.yaml, command.txt, versions.json         what was run
metrics.jsonl                                   seconds of stages, {"stage": str, "seconds": float}
stages/<name>/metrics.jsonl                     training curves, {"step": int, name: float, ...}
stages/finetune/model/                          the tuned model
stages/<name>/graph.json, graph.txt             the graph of nodes, as data and as text
stages/evaluate/result.json                     the outcome; the one part that must be there
stages/evaluate/samples/                        samples by model, all from the same noise
stages/evaluate/texts.json                      where they are texts, likewise
stages/evaluate/episodes/                       states of episodes by model, likewise
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from alignflow.checkpoint import fact, load_folder
from alignflow.metrics.estimate import Finite
from alignflow.metrics.names import current
from alignflow.results import (
    EvaluationResult,
    Graph,
    ModelResult,
    ReferenceResult,
    ReportError,
    StrengthResult,
    TextsResult,
    TiltResult,
    convert,
    read,
    read_json,
    read_json_lines,
)

__all__ = ["RESULT", "Curve", "Drawing", "Episodes", "Run", "Tuned", "read_run"]

BASE, REFERENCE = "base", "reference"
RESULT = Path("stages/evaluate/result.json")


@dataclass(frozen=True)
class Episodes:
    """Decoded states (n, T + 1, ...) of episodes by model, and their times."""

    states: dict[str, Tensor]
    times: list[float]


@dataclass(frozen=True)
class Tuned:
    """The tuned model's folder, and the name of its network; None for the user's."""

    folder: Path
    network: str | None


@dataclass(frozen=True)
class Drawing:
    """A graph of nodes, as data and as printed; earlier versions left the text alone."""

    graph: Graph | None
    text: str | None


class _Line(msgspec.Struct):
    """A line of metrics: a step of a training, or a stage's end."""

    step: Finite
    stage: str | None = None
    seconds: Finite | None = None


class _Facts(msgspec.Struct):
    """Of the tuned model's folder."""

    network: str | None = None


Curve = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Run:
    """A run folder's content, the base model first; what the run did not write is empty or None."""

    folder: Path
    models: list[ModelResult]
    tilt: TiltResult | None
    reference: ReferenceResult | None
    reward_name: str
    strength: float
    event: str
    samples: dict[str, Tensor]
    texts: TextsResult | None
    episodes: Episodes | None
    curves: dict[str, dict[str, Curve]]
    durations: dict[str, float]
    tuned: Tuned | None
    graphs: dict[str, Drawing]
    strengths: list[StrengthResult]
    config: str | None
    command: str | None
    versions: dict[str, Any]

    @property
    def base(self) -> ModelResult:
        return self.models[0]

    @property
    def aligned(self) -> list[ModelResult]:
        """All models but the base."""
        return self.models[1:]


def read_run(folder: str | Path) -> Run:
    """Read and check a run folder.

    Raises:
        ReportError: If the folder or its result is missing, or a file does not hold what it should;
            it names the file and the key.
        CheckpointError: If the samples are truncated or altered.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"{folder} is no run folder: there is no such folder")
    result = read(folder / RESULT, EvaluationResult)
    names = [model.name for model in result.models]
    if BASE not in names or len(set(names)) < len(names):
        raise ReportError(
            f"{folder / RESULT}: models must have different names, one of them {BASE!r}; "
            f"got {names}"
        )
    return Run(
        folder=folder,
        models=sorted(result.models, key=lambda model: model.name != BASE),
        tilt=result.tilt,
        reference=result.reference,
        reward_name=result.reward_name,
        strength=result.strength,
        event=result.event,
        samples=_samples(folder / "stages/evaluate/samples", names),
        texts=_texts(folder / "stages/evaluate/texts.json", names),
        episodes=_episodes(folder / "stages/evaluate/episodes", names),
        curves=_curves(folder),
        durations=_durations(folder / "metrics.jsonl"),
        tuned=_tuned(folder / "stages/finetune/model"),
        graphs=_graphs(folder),
        strengths=result.strengths,
        config=_text(folder / "config.yaml"),
        command=_text(folder / "command.txt"),
        versions=_versions(folder / "versions.json"),
    )


def _episodes(folder: Path, names: list[str]) -> Episodes | None:
    if not folder.exists():
        return None
    states, facts = load_folder(folder, allow_nonfinite=True)
    times = fact(facts, "times", list, folder)
    lengths = {path.shape[1] for path in states.values() if path.ndim > 2}
    if not set(states) <= set(names) or lengths != {len(times)}:
        raise ReportError(
            f"{folder} must hold states (n, T + 1, ...) of the models {', '.join(names)} with "
            f"their times, got { ({name: tuple(path.shape) for name, path in states.items()}) }"
        )
    return Episodes({name: states[name] for name in names if name in states}, times)


def _samples(folder: Path, names: list[str]) -> dict[str, Tensor]:
    if not folder.exists():
        return {}
    tensors, _ = load_folder(folder, allow_nonfinite=True)
    strangers = sorted(set(tensors) - set(names))
    if strangers:
        raise ReportError(
            f"{folder} holds samples of {strangers[0]!r}, of which {RESULT} says nothing"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ReportError(f"{folder}: samples of the same noise must agree in shape, got {shapes}")
    return {
        name: tensors[name] for name in sorted(tensors, key=lambda n: (n != BASE, names.index(n)))
    }


def _texts(file: Path, names: list[str]) -> TextsResult | None:
    if not file.exists():
        return None
    found = read(file, TextsResult)
    for row in found.shown:
        if row.name not in (*names, REFERENCE):
            raise ReportError(f"{file} holds texts of {row.name!r}, of which {RESULT} says nothing")
        if len(row.texts) != len(row.rewards):
            raise ReportError(
                f"{file}: {row.name!r} has {len(row.texts)} texts and {len(row.rewards)} rewards"
            )
    return found


def _curves(folder: Path) -> dict[str, dict[str, Curve]]:
    """Curves by stage and metric; a metric logged once is no curve."""
    files = [folder / "metrics.jsonl", *sorted(folder.glob("stages/*/metrics.jsonl"))]
    curves = {}
    for file in filter(Path.exists, files):
        stage = "run" if file.parent == folder else file.parent.name
        series: dict[str, Curve] = {}
        for where, found in read_json_lines(file):
            line = convert(found, _Line, file, where)
            if line.stage is not None:  # a stage's end, which is no step of a training
                continue
            for name, value in found.items():
                # a loss may log NaN and a line may hold texts: neither is a point of a curve
                if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                    steps, values = series.setdefault(current(name), ([], []))
                    steps.append(int(line.step))
                    values.append(float(value))
        series = {name: curve for name, curve in series.items() if len(curve[0]) > 1}
        if series:
            curves[stage] = series
    return curves


def _durations(file: Path) -> dict[str, float]:
    """Seconds by stage, of all parts of a stage that was cut."""
    seconds: dict[str, float] = {}
    for where, found in read_json_lines(file) if file.exists() else []:
        line = convert(found, _Line, file, where)
        if line.stage is not None:
            seconds[line.stage] = seconds.get(line.stage, 0.0) + (line.seconds or 0.0)
    return seconds


def _tuned(folder: Path) -> Tuned | None:
    if not folder.exists():
        return None
    file = folder / "facts.json"
    return Tuned(folder, convert(read_json(file), _Facts, file).network)


def _graphs(folder: Path) -> dict[str, Drawing]:
    drawings = {}
    for stage in sorted({file.parent for file in folder.glob("stages/*/graph.*")}):
        data = stage / "graph.json"
        drawing = Drawing(read(data, Graph) if data.exists() else None, _text(stage / "graph.txt"))
        if drawing.graph or drawing.text:
            drawings[stage.name] = drawing
    return drawings


def _versions(file: Path) -> dict[str, Any]:
    return convert(read_json(file), dict[str, Any], file) if file.exists() else {}


def _text(file: Path) -> str | None:
    return (file.read_text("utf-8").strip() or None) if file.exists() else None
