"""The result of an evaluation: estimates by name, printed as a table, and perhaps a verdict."""

import io
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from alignflow.tables import html_table

from .estimate import Estimate
from .names import TO_TILT, current
from .tilt_check import TiltCheck

__all__ = ["Evaluation"]

HEAD = ("measure", "value", "standard error")


class Evaluation(dict[str, Estimate]):
    """Estimates by name, with the number of samples behind them; prints as a table.

    A name of an earlier version leads to the present one.

    Args:
        estimates: By name.
        count: Of the samples.
        tilt_check: Their comparison with a tilt, whose numbers join the others.
    """

    def __init__(
        self, estimates: Mapping[str, Estimate], count: int, tilt_check: TiltCheck | None = None
    ):
        super().__init__(estimates)
        self.count, self.tilt_check = count, tilt_check
        if tilt_check is not None:
            self.update(_of_tilt(tilt_check))

    @property
    def verdict(self) -> str | None:
        """Whether the samples are of the tilt, in a sentence; None without one."""
        return None if self.tilt_check is None else self.tilt_check.verdict

    def __missing__(self, name: str) -> Estimate:
        present = current(name)
        if present not in self:
            raise KeyError(name)
        return self[present]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: `samples`, `verdict` if any, and name to value and standard error."""
        rows = {
            name: {"value": estimate.value, "standard_error": estimate.standard_error}
            for name, estimate in self.items()
        }
        verdict = {} if self.verdict is None else {"verdict": self.verdict}
        return {"samples": self.count, **rows, **verdict}

    def __rich__(self):
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._title)
        for name in HEAD:
            table.add_column(name, justify="left" if name == HEAD[0] else "right")
        for row in self._rows():
            table.add_row(*row)
        return table if self.verdict is None else Group(table, Text(self.verdict))

    def _repr_html_(self) -> str:
        below = "" if self.verdict is None else f"<p>{escape(self.verdict)}</p>"
        return html_table(self._title, HEAD, self._rows()) + below

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=100).print(self)
        return out.getvalue().rstrip()

    @property
    def _title(self) -> str:
        return f"{self.count} samples"

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        for name, estimate in self.items():
            yield name, f"{estimate.value:.4g}", f"{estimate.standard_error:.2g}"


def _of_tilt(check: TiltCheck) -> Iterator[tuple[str, Estimate]]:
    """Its numbers by name: each under the tilt and of the base, and what there is of the others."""
    for name, found in check.numbers.items():
        yield f"{TO_TILT}{name}", found.tilt
        yield f"base_{name}", found.base
    others = {
        f"{TO_TILT}mmd": check.mmd,
        f"{TO_TILT}ess": check.base_ess,
        f"{TO_TILT}progress": check.progress,
        "particle_ess": check.particle_ess,
    }
    yield from ((name, found) for name, found in others.items() if found is not None)
