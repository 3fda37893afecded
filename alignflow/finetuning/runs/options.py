"""The options of a tuning's run, whatever its method."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow import checks
from alignflow.checkpoint import as_folder
from alignflow.settings import Settings, option, optional

from .annealing import AdaptiveStages, EqualStages
from .langevin import Langevin

__all__ = ["RunOptions"]

Stages = EqualStages | AdaptiveStages


def _at_least_0(name: str, value: Any) -> int:
    return checks.count(name, value, least=0)


def _stages(name: str, value: Any) -> Stages | None:
    return value if value is None or isinstance(value, Stages) else EqualStages(value)


def _langevin(name: str, value: Any) -> Langevin:
    return checks.instance(name, value, Langevin, "a Langevin(distribution, ...)")


def _held_out(name: str, value: Any) -> Mapping[str, Any]:
    checks.instance(name, value, Mapping, "a mapping from names to rewards")
    for each in value:
        checks.instance(f"each name in {name}", each, str, "a text")
    return value


@dataclass(frozen=True, kw_only=True)
class RunOptions(Settings):
    """Options of a run.

    Raises:
        ValueError: If an option is none of its kind, or would do nothing.
    """

    steps: int = option(2000, "gradient steps in all", checks.count)
    batch_size: int = option(256, "rows of a step", checks.count)
    annealing_stages: int | EqualStages | AdaptiveStages | None = option(
        None,
        "number of tilts, each of the last one's result, by equal parts of the strength; or "
        "AdaptiveStages, by parts that leave enough candidates effective; None: as the method says",
        _stages,
    )
    recentering: int = option(
        0,
        "steps of distillation after each stage on the tuned model's samples, which make its "
        "velocity that of their distribution again (2512.21829)",
        _at_least_0,
    )
    langevin: Langevin | None = option(
        None,
        "Langevin moves of these samples, for a base whose density is known",
        optional(_langevin),
    )
    redistillation: int = option(
        0,
        "steps at the end that learn the jumps anew by progressive self-distillation, of the tuned "
        "velocity held constant, on the tuned model's samples: for one or two steps out",
        _at_least_0,
    )
    folder: str | Path | None = option(
        None,
        "where metrics and checkpoints go; a run found there is continued",
        optional(lambda name, value: as_folder(value)),
    )
    held_out: Mapping[str, Any] | None = option(
        None,
        "rewards by name that are not trained on, logged with the monitor's metrics",
        optional(_held_out),
    )
    early_stop: float | None = option(
        None,
        "standard errors below its best by which a held-out reward ends the run, which then "
        "returns the model of the checkpoint before",
        optional(checks.positive),
    )
    target: Any = option(
        None,
        "what has the policy's exact tilt, target.tilted(reward, strength); the distance to it is "
        "logged",
    )

    def __post_init__(self):
        super().__post_init__()
        watching = {
            "held_out": self.held_out or None,
            "early_stop": self.early_stop,
            "target": self.target,
        }
        idle = [name for name, value in watching.items() if value is not None]
        if idle and self.folder is None:
            raise ValueError(f"{', '.join(idle)} would do nothing without a folder to log to")
        if self.early_stop is not None and not self.held_out:
            raise ValueError("early_stop needs held_out rewards: it stops when one of them falls")
        if self.langevin is not None and not self.recentering:
            raise ValueError("langevin would do nothing without recentering: it moves its samples")
