"""The picture of README's first example: its code is run as printed, and its samples are drawn.

python scripts/first_example.py
"""

import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs/pictures/first_example.png"
COLORS = ("#868e99", "#0072b2", "#d55e00", "#1b1d21")
STYLE: Any = {"font.size": 11, "axes.edgecolor": "#d9dce1", "font.family": "sans-serif"}


def main() -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    if found is None:
        raise ValueError("README.md has no block of Python")
    names: dict = {}
    exec(found.group(1), names)
    samples, right = names["samples"], names["right"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.35), layout="constrained", facecolor="white")
        panels = figure.subplots(1, len(samples), sharex=True, sharey=True)
        for panel, (name, points), color in zip(panels, samples.items(), COLORS, strict=True):
            panel.scatter(*points.detach().T, s=9, color=color, alpha=0.45, linewidths=0)
            panel.set(xlim=(-5.6, 5.6), ylim=(-5.6, 5.6), aspect="equal", xticks=[], yticks=[])
            panel.set_title(name, fontsize=14, fontweight="bold", color=color, pad=8)
            panel.set_xlabel(f"mean reward {right(points).mean():.2f}", color="#1b1d21", labelpad=7)
        arrow = {"arrowstyle": "-|>", "color": "#868e99"}
        ends = {"xy": (2.4, 0), "xytext": (-2.4, 0), "arrowprops": arrow}
        panels[0].annotate("", **ends)
        panels[0].text(0, 0.35, "reward", color="#5c636e", ha="center", va="bottom")
    figure.savefig(PICTURE, dpi=160)


if __name__ == "__main__":
    main()
