"""What a result says of a run beside its reference, read and checked."""

from dataclasses import dataclass

from .value import Estimate, Value

__all__ = ["Histogram", "Reference", "Weighed", "read_reference"]


@dataclass(frozen=True)
class Histogram:
    """Shares of the bins between the edges, by model, the reference among them."""

    edges: list[float]
    shares: dict[str, list[float]]


@dataclass(frozen=True)
class Weighed:
    """n samples of an ODE as they are, and weighed by the reference's density over their own."""

    n: int
    mean_reward: Estimate
    distances: dict[str, Estimate]
    ess: float
    weighed_reward: Estimate


@dataclass(frozen=True)
class Reference:
    """Samples of the law that was aimed at, and how near each model, by name, comes to them."""

    mean_reward: Estimate
    distances: dict[str, dict[str, Estimate]]
    histograms: dict[str, Histogram]
    weighed: dict[str, Weighed]


def read_reference(entry: Value | None) -> Reference | None:
    """The entry of a result, or None where the run had no reference."""
    if entry is None:
        return None

    def named(value: Value, read) -> dict:
        return {name: read(inner) for name, inner in value.by_name().items()}

    return Reference(
        mean_reward=entry["mean_reward"].estimate(),
        distances=named(entry["distances"], lambda of: named(of, Value.estimate)),
        histograms=named(
            entry["histograms"],
            lambda of: Histogram(of["edges"].numbers(), named(of["shares"], Value.numbers)),
        ),
        weighed=named(
            entry["weighed"],
            lambda of: Weighed(
                n=int(of["n"].number()),
                mean_reward=of["mean_reward"].estimate(),
                distances=named(of["distances"], Value.estimate),
                ess=of["ess"].number(),
                weighed_reward=of["weighed_reward"].estimate(),
            ),
        ),
    )
