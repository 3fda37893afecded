"""The result of an evaluation: estimates by name, printed as a table."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from alignflow.tables import html_table

from .estimate import Estimate
from .names import current

__all__ = ["Evaluation"]

HEAD = ("measure", "value", "standard error")


class Evaluation(dict[str, Estimate]):
    """Estimates by name, with the number of samples behind them; prints as a table.

    A name of an earlier version leads to the present one.
    """

    def __init__(self, estimates: Mapping[str, Estimate], count: int):
        super().__init__(estimates)
        self.count = count

    def __missing__(self, name: str) -> Estimate:
        present = current(name)
        if present not in self:
            raise KeyError(name)
        return self[present]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: `samples`, and name to value and standard error."""
        rows = {
            name: {"value": estimate.value, "standard_error": estimate.standard_error}
            for name, estimate in self.items()
        }
        return {"samples": self.count, **rows}

    def __rich__(self):
        from rich.table import Table

        table = Table(title=self._title)
        for name in HEAD:
            table.add_column(name, justify="left" if name == HEAD[0] else "right")
        for row in self._rows():
            table.add_row(*row)
        return table

    def _repr_html_(self) -> str:
        return html_table(self._title, HEAD, self._rows())

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
