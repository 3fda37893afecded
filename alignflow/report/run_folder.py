"""What a run left in its folder, read once and checked, so that the page can trust it.

config.yaml, command.txt, versions.json         what was run
metrics.jsonl                                   seconds of stages, {"stage": str, "seconds": float}
stages/<name>/metrics.jsonl                     training curves, {"step": int, name: float, ...}
stages/finetune/model/                          the tuned model
stages/<name>/graph.mmd, graph.txt              the graph of nodes, as mermaid and as text
stages/evaluate/result.json                     the outcome; the one part that must be there
stages/evaluate/samples/                        samples by model, all from the same noise
stages/evaluate/episodes/                       states of episodes by model, likewise
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from alignflow.checkpoint import fact, load_folder

from .reference import Reference, read_reference
from .value import Estimate, Interval, ReportError, Value, read_json, read_json_lines

__all__ = [
    "Curve",
    "Episodes",
    "Graph",
    "Model",
    "Run",
    "Tilt",
    "Tuned",
    "read_run",
]

BASE = "base"
EVENTS = ("image", "points", "other")
RESULT = Path("stages/evaluate/result.json")


@dataclass(frozen=True)
class Model:
    """One model's judged samples; costs are per sample."""

    name: str
    rewards: list[float]
    mean_reward: Estimate
    rates: dict[str, Interval]
    held_out: dict[str, Estimate]
    diversity: Estimate | None
    distance_to_base: dict[str, Estimate]
    cost: dict[str, float]


@dataclass(frozen=True)
class Tilt:
    """What the exact tilt would give, by reweighting base samples; `ess` of their weights."""

    name: str
    mean_reward: Estimate
    rates: dict[str, Interval]
    ess: float


@dataclass(frozen=True)
class Episodes:
    """Decoded states (n, T + 1, ...) of episodes by model, and their times."""

    states: dict[str, Tensor]
    times: list[float]


@dataclass(frozen=True)
class Tuned:
    """The tuned model's folder, and the name of its network; None for one of the user's own."""

    folder: Path
    network: str | None


@dataclass(frozen=True)
class Graph:
    """A graph of nodes, as mermaid and as printed; either may be missing."""

    mermaid: str | None
    text: str | None


Curve = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Run:
    """A run folder's content, the base model first; what the run did not write is empty or None."""

    folder: Path
    models: list[Model]
    tilt: Tilt | None
    reference: Reference | None
    reward_name: str
    strength: float
    event: str
    samples: dict[str, Tensor]
    episodes: Episodes | None
    curves: dict[str, dict[str, Curve]]
    durations: dict[str, float]
    tuned: Tuned | None
    graphs: dict[str, Graph]
    config: str | None
    command: str | None
    versions: dict[str, Any]

    @property
    def base(self) -> Model:
        return self.models[0]

    @property
    def aligned(self) -> list[Model]:
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
    result = read_json(folder / RESULT)
    models = [_model(entry) for entry in result["models"].entries()]
    names = [model.name for model in models]
    if BASE not in names or len(set(names)) < len(names):
        raise ReportError(
            f"{folder / RESULT}: models must have different names, one of them {BASE!r}; "
            f"got {names}"
        )
    models.sort(key=lambda model: model.name != BASE)
    return Run(
        folder=folder,
        models=models,
        tilt=_tilt(result.get("tilt")),
        reference=read_reference(result.get("reference")),
        reward_name=result["reward_name"].text(),
        strength=result["strength"].number(),
        event=result["event"].one_of(EVENTS),
        samples=_samples(folder / "stages/evaluate/samples", names),
        episodes=_episodes(folder / "stages/evaluate/episodes", names),
        curves=_curves(folder),
        durations=_durations(folder / "metrics.jsonl"),
        tuned=_tuned(folder / "stages/finetune/model"),
        graphs=_graphs(folder),
        config=_text(folder / "config.yaml"),
        command=_text(folder / "command.txt"),
        versions=_versions(folder / "versions.json"),
    )


def _model(entry: Value) -> Model:
    def named(key: str, read) -> dict:
        value = entry.get(key)
        return {} if value is None else {k: read(v) for k, v in value.by_name().items()}

    rewards = entry["rewards"].numbers()
    if not rewards:
        raise entry["rewards"].error("at least one reward")
    diversity = entry.get("diversity")
    return Model(
        name=entry["name"].text(),
        rewards=rewards,
        mean_reward=entry["mean_reward"].estimate(),
        rates=named("rates", Value.interval),
        held_out=named("held_out", Value.estimate),
        diversity=None if diversity is None else diversity.estimate(),
        distance_to_base=named("distance_to_base", Value.estimate),
        cost=named("cost", Value.number),
    )


def _tilt(entry: Value | None) -> Tilt | None:
    if entry is None:
        return None
    rates = entry.get("rates")
    return Tilt(
        name=entry["name"].text(),
        mean_reward=entry["mean_reward"].estimate(),
        rates={} if rates is None else {k: v.interval() for k, v in rates.by_name().items()},
        ess=entry["ess"].number(),
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


def _curves(folder: Path) -> dict[str, dict[str, Curve]]:
    """Curves by stage and metric; a metric logged once is no curve."""
    files = [folder / "metrics.jsonl", *sorted(folder.glob("stages/*/metrics.jsonl"))]
    curves = {}
    for file in filter(Path.exists, files):
        stage = "run" if file.parent == folder else file.parent.name
        series: dict[str, Curve] = {}
        for line in read_json_lines(file):
            if line.get("stage") is not None:  # a stage's end, which is no step of a training
                continue
            step = int(line["step"].number())
            for name, value in line.value.items():
                # a loss may log NaN and a line may hold texts: neither is a point of a curve
                if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                    steps, values = series.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(float(value))
        series = {name: curve for name, curve in series.items() if len(curve[0]) > 1}
        if series:
            curves[stage] = series
    return curves


def _durations(file: Path) -> dict[str, float]:
    """Seconds by stage, of all parts of a stage that was cut."""
    seconds: dict[str, float] = {}
    for line in read_json_lines(file) if file.exists() else []:
        if (stage := line.get("stage")) is not None:
            seconds[stage.text()] = seconds.get(stage.text(), 0.0) + line["seconds"].number()
    return seconds


def _tuned(folder: Path) -> Tuned | None:
    if not folder.exists():
        return None
    network = read_json(folder / "facts.json").get("network")
    return Tuned(folder, None if network is None else network.text())


def _graphs(folder: Path) -> dict[str, Graph]:
    stages = sorted({file.parent for file in folder.glob("stages/*/graph.*")})
    graphs = {s.name: Graph(_text(s / "graph.mmd"), _text(s / "graph.txt")) for s in stages}
    return {name: graph for name, graph in graphs.items() if graph.mermaid or graph.text}


def _versions(file: Path) -> dict[str, Any]:
    entries = read_json(file).by_name() if file.exists() else {}
    return {name: entry.value for name, entry in entries.items()}


def _text(file: Path) -> str | None:
    return (file.read_text("utf-8").strip() or None) if file.exists() else None
