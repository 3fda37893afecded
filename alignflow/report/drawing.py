"""How figures are drawn: as SVG that takes its colors from the page.

Each color is a fixed placeholder while matplotlib draws and a CSS variable afterwards, so one SVG
serves a light page, a dark one and print. No figure touches pyplot or global settings.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

__all__ = ["BAND", "INK", "MODELS", "MUTED", "WIDTH", "Plot", "frame", "log_scale", "plot", "svg"]

INK, MUTED, RULE, BAND = "#1b1d21", "#5c636e", "#d9dce1", "#f3efe3"
# Okabe and Ito's color-blind safe colors; the base is gray, the exact tilt is ink
MODELS = ("#868e99", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WIDTH = 4.5  # inches; half a page
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", BAND: "--band"} | {
    color: f"--model-{i}" for i, color in enumerate(MODELS)
}
STYLE: Any = {
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # names are names, whatever dollars they hold
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "svg.fonttype": "none",  # text stays text, in the page's font
}


@contextmanager
def frame(width: float = WIDTH, height: float = 3.3) -> Iterator[Figure]:
    """An empty figure to draw in, of so many inches, in the page's style."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained", dpi=160)


def log_scale(axes: Axes, *which: str) -> None:
    """Logarithmic axes ("x", "y") with plain numbers at their ticks, at least three of them."""
    for name in which:
        axes.set(**{f"{name}scale": "log"})
        axis = getattr(axes, f"{name}axis")
        low, high = sorted(axis.get_view_interval())
        axis.set_major_locator(LogLocator(subs=(1.0,) if high > 1e3 * low else (1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def svg(figure: Figure, title: str) -> str:
    """A figure as an SVG element for the page, with an accessible title.

    Args:
        figure: Drawn with this module's colors.
        title: Said by screen readers; also what the ids inside are made of.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    # ids of groups repeat from figure to figure, and nothing refers to them
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)
    drawn = re.sub(r' (width|height)="[0-9.]+pt"', "", drawn, count=2)  # as wide as its place
    for color, variable in VARIABLES.items():
        drawn = drawn.replace(color, f"var({variable})")
    return drawn.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


@dataclass(frozen=True)
class Plot:
    """A figure with its title and what to see in it."""

    title: str
    caption: str
    drawing: Markup


def plot(title: str, caption: str, figure: Figure, spoken: str | None = None) -> Plot:
    """A figure for the page; screen readers say its title, or what is given to be said."""
    return Plot(title, caption, Markup(svg(figure, spoken or title)))
