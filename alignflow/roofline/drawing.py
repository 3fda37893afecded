"""The roofline as a plot: a roof a device, a point a decoder."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .estimate import Estimate

__all__ = ["save_plot"]

MARKERS = "osD^vP*X<>"


def save_plot(path: str | Path, estimates: Iterable[Estimate]) -> Path:
    """Draw estimates of one model under the roofs of their devices, as a PNG."""
    # without pyplot: no window system, no state in common with the caller's figures
    from matplotlib.figure import Figure

    estimates, path = list(estimates), Path(path)
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axis = figure.subplots()
    at = [each.work.intensity for each in estimates]
    ridges = [each.device.ridge(each.model.dtype) for each in estimates]
    intensity = np.geomspace(0.5 * min(at), 4 * max(*at, *ridges), 200)
    devices = {each.device.name: each for each in estimates}
    for each in devices.values():
        peak, bandwidth = each.device.rate(each.model.dtype), each.device.bandwidth
        axis.loglog(intensity, np.minimum(peak, intensity * bandwidth), label=each.device.name)
    names = list(dict.fromkeys(_label(each) for each in estimates))
    for number, name in enumerate(names):
        ours = [each for each in estimates if _label(each) == name]
        points = [each.work.intensity for each in ours], [each.attainable for each in ours]
        marker, color = MARKERS[number % len(MARKERS)], f"C{number % 10}"
        axis.plot(*points, marker, color=color, label=name)
    axis.set_xlabel("FLOP a byte")
    axis.set_ylabel("attainable FLOP a second")
    axis.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _label(estimate: Estimate) -> str:
    return f"{estimate.decoder.name}, batch {estimate.batch}"
