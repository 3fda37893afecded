"""What a pilot found: a row a method, the cheapest that reaches the tilt, and how to run it."""

import io
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from alignflow.cost import Cost
from alignflow.tables import html_table
from alignflow.values import ValueFunction

from ..building import method_name
from ..recipes import Recipe

__all__ = ["FEW", "LEARNED", "Advice", "Basis", "Row", "cheapest", "work"]

HEAD = ("", "method", "forwards", "gradients", "rewards", "seconds", "distance", "reaches it")
NUMBERS = HEAD[2:7]
LONGEST = 19
"""Characters of the longest option, transition=anchored."""
WIDTH = 100  # columns, where there is no terminal
FEW = 30.0
"""Effective samples of the pilot below which it cannot tell."""
LEARNED = "learned"
"""In place of a learned value, where options are told."""
NOT_FORECAST = (
    "not forecast: tunings (af.finetune), whose cost is paid once, and learned values, unless one "
    "is given (value=)"
)

Basis = Literal["weights", "fit", "run", "check"]
"""By what a distance is known: the pilot's weights; a fit to chains; a short run; a check, a run of
as many samples as the pilot has."""


def work(cost: Cost) -> int:
    """Forwards, a gradient counted as two."""
    return cost.nfe + 2 * cost.vjps


@dataclass(frozen=True)
class Row:
    """One method at one setting, and what it would take to reach the tilt.

    Args:
        recipe: The method with its options.
        steps: Of its grid or chain.
        cost: Of a sample, counted in a dry run.
        seconds: A sample takes, in a batch as large as the pilot's.
        distance: To the tilt.
        error: Of the distance; 0 where it follows from the weights of the pilot.
        basis: By what the distance is known.
        needed: Forwards a sample with which it reaches the tilt, a gradient counted as two; None if
            none are known.
        remark: Why none are.
        biased: Whether it samples something else than the tilt, however much it may cost.
    """

    recipe: Recipe
    steps: int
    cost: Cost
    seconds: float
    distance: float
    error: float
    basis: Basis
    needed: int | None
    remark: str = ""
    biased: bool = False

    @property
    def method(self) -> str:
        """Name of the method."""
        return method_name(self.recipe)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the method that differ from its defaults; "learned" for a learned value."""
        values = {each.name: getattr(self.recipe, each.name) for each in fields(self.recipe)}
        default = type(self.recipe)()
        return {
            name: LEARNED if isinstance(value, ValueFunction) else value
            for name, value in values.items()
            if value is not getattr(default, name) and value != getattr(default, name)
        }

    def reaches(self, budget: int) -> bool:
        """Whether it is expected to reach the tilt within a budget."""
        return not self.biased and self.needed is not None and self.needed <= budget


def cheapest(rows: Iterable[Row], budget: int) -> Row | None:
    """Of the rows that reach the tilt within a budget; None if none does."""
    reaching = [row for row in rows if row.reaches(budget)]
    return min(reaching, key=lambda row: (row.needed, row.cost.reward_calls), default=None)


class Advice:
    """Methods with their costs, and the cheapest that reaches the tilt; prints as a table.

    Args:
        rows: A method each.
        strength: Of the tilt.
        budget: The most forwards a sample, a gradient counted as two.
        tolerance: Distance to the tilt that counts as reached.
        ess: Effective sample size of the pilot at full strength.
        samples: Of the pilot.
        facts: What else the pilot found, by name.
        skipped: Why methods were left out, by name.

    Attributes:
        best: The row to take: of those that reach the tilt within the budget the cheapest; if there
            is none, the nearest of the unbiased ones.
        reached: Whether `best` reaches the tilt within the budget; None where the pilot cannot
            tell.
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
        facts: Mapping[str, str],
        skipped: Mapping[str, str],
    ):
        self.rows = tuple(rows)
        self.strength, self.budget, self.tolerance = strength, budget, tolerance
        self.ess, self.samples = ess, samples
        self.facts, self.skipped = dict(facts), dict(skipped)
        reaching = cheapest(self.rows, budget)
        able = [row for row in self.rows if not row.biased and work(row.cost) <= budget]
        self.best = reaching or min(able, key=lambda row: (row.distance, work(row.cost)))
        self.reached = None if ess < FEW else reaching is not None

    @property
    def verdict(self) -> str:
        """In a sentence."""
        best = self.best
        end = f"at {work(best.cost)} forwards a sample, distance {_distance(best)}"
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

    def choice(self) -> dict[str, Any]:
        """Method, steps and options of `best`, as JSON can hold them; keywords of `steer`."""
        return {"method": self.best.method, "steps": self.best.steps, **self.best.options}

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
                "basis": row.basis,
                "needed": row.needed,
                "reaches": row.reaches(self.budget),
                "biased": row.biased,
                "remark": row.remark,
            }
            for row in self.rows
        ]
        return {
            "verdict": self.verdict,
            "choice": self.choice(),
            "rows": rows,
            "facts": self.facts,
            "skipped": self.skipped,
        }

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

        table = Table(title=self._title(), title_justify="left", box=None, padding=(0, 1, 0, 0))
        for name in HEAD:
            # numbers stand whole, and words are wrapped
            number = name in NUMBERS
            table.add_column(
                name,
                no_wrap=number,
                justify="right" if number else "left",
                width=LONGEST if name == "method" else None,
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
        return [facts, *left_out, NOT_FORECAST, self.verdict]

    def _shown(self) -> Iterator[tuple[str, ...]]:
        for row in self.rows:
            options = {"steps": row.steps, **row.options}
            yield (
                "*" if row is self.best else "",
                " ".join([row.method, *(f"{name}={value}" for name, value in options.items())]),
                str(row.cost.nfe),
                str(row.cost.vjps),
                str(row.cost.reward_calls),
                f"{row.seconds:.2g}",
                _distance(row),
                f"{self._answer(row)} ({row.basis})",
            )

    def _answer(self, row: Row) -> str:
        if row.biased or row.needed is None:
            return f"no, {row.remark}"
        if row.reaches(self.budget) and row.needed == work(row.cost):
            return "yes"
        return f"at {row.needed}"


def _distance(row: Row) -> str:
    return f"{row.distance:.2f}" + (f"±{row.error:.2f}" if row.error else "")
