"""The roofline as a plot: a roof a device, a point a decoder."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .estimate import Estimate

__all__ = ["save_plot"]

MARKERS = "os^Dv"
# points of one intensity are seen as rings in each other
LARGEST, SMALLER = 15, 2


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
    names = list(dict.fromkeys(each.decoder.name for each in estimates))
    batches = list(dict.fromkeys(each.batch for each in estimates))
    for case in dict.fromkeys(each.case for each in estimates):
        ours = [each for each in estimates if each.case == case]
        number = names.index(case[0].name)
        axis.plot(
            [each.work.intensity for each in ours],
            [each.attainable for each in ours],
            MARKERS[batches.index(case[1]) % len(MARKERS)],
            color=f"C{number}",
            fillstyle="none",
            markersize=max(LARGEST - SMALLER * number, SMALLER),
            label=f"{case[0].name}, batch {case[1]}",
        )
    axis.set_xlabel("FLOP a byte")
    axis.set_ylabel("attainable FLOP a second")
    axis.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
