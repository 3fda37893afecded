"""The names of metrics, each once, with its label and whether lower is better.

Results, logs, tables and reports use these names; `current` gives those of earlier versions.
"""

from dataclasses import dataclass

__all__ = ["METRICS", "Metric", "current", "label", "lower_is_better"]


@dataclass(frozen=True)
class Metric:
    """What a metric is called in tables; better low (True), high (False) or neither (None)."""

    label: str
    lower_is_better: bool | None = None


METRICS = {
    "reward": Metric("mean reward", False),
    "rate": Metric("rate"),
    "rate_bias": Metric("rate less the exact one"),
    "diversity": Metric("diversity", False),
    # distances: to a reference, to the base, to the exact tilt
    "sliced_w2": Metric("sliced W2", True),
    "total_variation": Metric("total variation", True),
    "cluster_w2": Metric("cluster W2", True),
    "mmd": Metric("MMD²", True),
    "energy_distance": Metric("energy distance", True),
    "frechet_distance": Metric("Fréchet distance", True),
    "reward_error": Metric("reward error", True),
    "mode_error": Metric("mode error", True),
    "displacement": Metric("displacement", True),
    "off_list": Metric("off the list", True),
    # importance weights
    "ess": Metric("effective sample size", False),
    "ess_fraction": Metric("effective fraction", False),
    "clipped_fraction": Metric("clipped fraction"),
    "exponent": Metric("exponent of the weights"),
    # costs of one sample, and of tuning
    "nfe": Metric("NFE", True),
    "vjps": Metric("vjps", True),
    "reward_calls": Metric("reward calls", True),
    "reward_vjps": Metric("reward vjps", True),
    "seconds": Metric("seconds", True),
    "megabytes": Metric("MB", True),
    "tuning_reward_calls": Metric("reward calls to tune", True),
    "tuning_reward_vjps": Metric("reward vjps to tune", True),
    "tuning_seconds": Metric("seconds to tune", True),
}

EARLIER = {
    "sliced_wasserstein": "sliced_w2",
    "energy": "energy_distance",
    "effective_share": "ess_fraction",
    "clipped_share": "clipped_fraction",
}
"""Names of earlier versions, to the present ones."""

TO_TILT = "tilt_"  # before the name of a distance to the exact tilt, or of a number under it


def current(name: str) -> str:
    """A metric's present name, from that or one of an earlier version."""
    prefix = TO_TILT if name.startswith(TO_TILT) else ""
    bare = name.removeprefix(prefix)
    return prefix + EARLIER.get(bare, bare)


def label(name: str) -> str:
    """What people call a metric; of one that is not listed, its name in words."""
    if name in METRICS:
        return METRICS[name].label
    if (bare := name.removeprefix(TO_TILT)) != name and bare in METRICS:
        word = "to" if METRICS[bare].lower_is_better else "under"
        return f"{METRICS[bare].label} {word} the exact tilt"
    return " ".join(name.replace("_", " ").split())


def lower_is_better(name: str) -> bool | None:
    """Whether a metric is better low; None where neither way is, or it is not listed."""
    if name.startswith("loss"):
        return True
    known = METRICS.get(name.removeprefix(TO_TILT))
    if known is None or (name.startswith(TO_TILT) and not known.lower_is_better):
        return None  # a number under the tilt is what samples are to come near
    return known.lower_is_better
