"""What a pilot found: a row a method, the cheapest that reaches the tilt, and how to run it."""

import io
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from alignflow.cost import Cost
from alignflow.tables import html_table

from ..building import method_name
from ..recipes import Recipe

__all__ = ["Advice", "Row"]

HEAD = (
    "", "method", "steps", "options", "forwards", "rewards", "gradients", "seconds", "distance",
    "reaches it",
)  # fmt: skip
WIDTH = 120  # columns
FEW = 30.0
"""Effective samples of the pilot below which it cannot tell."""


@dataclass(frozen=True)
class Row:
    """One method: where it ends within the budget, and what it would take to reach the tilt.

    Args:
        recipe: The method with its options.
        steps: Of its grid or chain.
        cost: Of a sample, counted in a dry run.
        seconds: A sample takes, in a batch as large as the pilot's.
        distance: Expected, to the tilt, in total variation.
        error: Of the distance; 0 where it follows from the weights of the pilot.
        needed: Forwards a sample with which it reaches the tilt; None if none are known.
        remark: Why not, or by what it was estimated.
        biased: Whether it samples something else than the tilt, however much it may cost.
    """

    recipe: Recipe
    steps: int
    cost: Cost
    seconds: float
    distance: float
    error: float
    needed: int | None
    remark: str = ""
    biased: bool = False

    @property
    def method(self) -> str:
        """Name of the method."""
        return method_name(self.recipe)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the method that differ from its defaults."""
        values = {each.name: getattr(self.recipe, each.name) for each in fields(self.recipe)}
        default = type(self.recipe)()
        return {name: value for name, value in values.items() if value != getattr(default, name)}


class Advice:
    """Methods with their costs, and the cheapest that reaches the tilt; prints as a table.

    Args:
        rows: A method each.
        strength: Of the tilt.
        budget: The most forwards a sample.
        tolerance: Distance to the tilt that counts as reached.
        ess: Effective sample size of the pilot at full strength.
        samples: Of the pilot.
        facts: What else the pilot found, by name.
        skipped: Why methods were left out, by name.

    Attributes:
        best: The row to take: of those that reach the tilt within the budget that of the fewest
            forwards, and then reward calls; if there is none, the nearest of the unbiased ones.
        reached: Whether `best` is expected to reach the tilt within the budget; None where the
            pilot cannot tell.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        strength: float,
        budget: int,
        tolerance: float,
        ess: float,
        samples: int,
        facts: dict[str, str],
        skipped: dict[str, str],
    ):
        self.rows = tuple(rows)
        self.strength, self.budget, self.tolerance = strength, budget, tolerance
        self.ess, self.samples = ess, samples
        self.facts, self.skipped = facts, skipped
        reaching = [row for row in self.rows if self.reaches(row)]
        if reaching:
            self.best = min(reaching, key=lambda row: (row.cost.nfe, row.cost.reward_calls))
        else:
            able = [row for row in self.rows if not row.biased and row.cost.nfe <= budget]
            self.best = min(able, key=lambda row: (row.distance, row.cost.nfe))
        self.reached = None if ess < FEW else bool(reaching)

    def reaches(self, row: Row) -> bool:
        """Whether a method is expected to reach the tilt within the budget."""
        return not row.biased and row.needed is not None and row.needed <= self.budget

    @property
    def verdict(self) -> str:
        """In a sentence."""
        best = self.best
        end = f"at {best.cost.nfe} forwards a sample, expected distance {best.distance:.2f}"
        if self.reached is None:
            return (
                f"cannot be told: the pilot's effective size is {self.ess:.1f} of {self.samples} "
                f"samples, and {FEW:g} are needed (a larger pilot, or a lower strength); the "
                f"nearest by what it has is {best.method} {end}"
            )
        if not self.reached:
            return (
                f"no method reaches the tilt within {self.budget} forwards a sample; the nearest "
                f"is {best.method} {end}"
            )
        return f"{best.method} reaches the tilt {end}"

    def call(self) -> str:
        """The steerer of `best` in Python, of a `policy` and a `reward`."""
        options = "".join(f", {name}={value!r}" for name, value in self.best.options.items())
        return (
            f'af.steer(policy, reward, "{self.best.method}", strength={self.strength:g}, '
            f"steps={self.best.steps}{options})"
        )

    def command(self, policy: str, reward: str, *more: str) -> str:
        """The command line of `best`.

        Args:
            policy: As it is named there.
            reward: Likewise.
            *more: Words of the command, such as `--condition 3`.
        """
        words = ["alignflow", "steer", policy, "--reward", reward, "--method", self.best.method]
        words += ["--strength", f"{self.strength:g}", "--steps", str(self.best.steps), *more]
        options = [f"{name}={value}" for name, value in self.best.options.items()]
        return shlex.join([*words, *(["--options", *options] if options else [])])

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        rows = [
            {
                "method": row.method,
                "steps": row.steps,
                "options": row.options,
                **dict(row.cost.items()),
                "seconds": row.seconds,
                "distance": row.distance,
                "error": row.error,
                "needed": row.needed,
                "reaches": self.reaches(row),
                "biased": row.biased,
                "remark": row.remark,
            }
            for row in self.rows
        ]
        return {"verdict": self.verdict, "rows": rows, "facts": self.facts, "skipped": self.skipped}

    def __str__(self) -> str:
        return self.verdict

    def __repr__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=WIDTH).print(self)
        return text.getvalue().rstrip()

    def __rich__(self):
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(
            *HEAD, title=self._title(), title_justify="left", box=None, padding=(0, 1, 0, 0)
        )
        for row in self._shown():
            table.add_row(*map(Text, row))
        return Group(table, *map(Text, ["", *self._about()]))

    def _repr_html_(self) -> str:
        return html_table(self._title(), HEAD, self._shown(), "; ".join(self._about()))

    def _title(self) -> str:
        return f"to the tilt of strength {self.strength:g} in {self.budget} forwards a sample"

    def _about(self) -> list[str]:
        facts = "; ".join(f"{name}: {value}" for name, value in self.facts.items())
        left_out = [f"left out: {name} ({why})" for name, why in self.skipped.items()]
        return [facts, *left_out, self.verdict]

    def _shown(self) -> Iterator[tuple[str, ...]]:
        for row in self.rows:
            yield (
                "*" if row is self.best else "",
                row.method,
                str(row.steps),
                " ".join(f"{name}={value}" for name, value in row.options.items()),
                str(row.cost.nfe),
                str(row.cost.reward_calls),
                str(row.cost.vjps),
                f"{row.seconds:.2g}",
                f"{row.distance:.3f}" + (f"±{row.error:.3f}" if row.error else ""),
                self._answer(row),
            )

    def _answer(self, row: Row) -> str:
        if row.biased:
            return f"no: {row.remark}"
        if self.reaches(row):
            return "yes"
        if row.needed is None:
            return f"no: {row.remark}" if row.remark else "not seen to"
        return f"at {row.needed} forwards"
