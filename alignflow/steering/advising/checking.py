"""The cheapest method is checked before it is recommended, on samples that it was not chosen by.

Of several forecasts the lowest is the one that chance has flattered. So the cheapest is run at its
setting, for as many samples as the pilot has: it reaches the tilt if no event's probability is off
by more than the tolerance, or two standard errors where these are more. If it does not, it is given
half as many steps, particles or draws more, and what is then the cheapest is checked.
"""

from dataclasses import replace

from .advice import Row, cheapest, work
from .candidates import longer, measured
from .study import Study

__all__ = ["check_cheapest"]

KNOWN = ("weights", "check")
"""By what a distance must be known to be recommended."""


def check_cheapest(study: Study) -> list[Row]:
    """The rows of a study, checked until the cheapest that reaches the tilt is known to."""
    rows = list(study.rows)
    while best := cheapest(rows, study.budget):
        if best.basis in KNOWN and best.needed == work(best.cost):
            break
        rows[rows.index(best)] = _checked(study, best)
    return rows


def _checked(study: Study, row: Row) -> Row:
    """A row after a check of its setting, or of the longer one if that has failed before."""
    failed = row.basis == "check"
    recipe, steps = longer(row) if failed else (row.recipe, row.steps)
    found = measured(study, recipe, steps, "check")
    if found.needed is not None:
        return found
    return replace(found, needed=study.work(*longer(found)), remark="")
