"""Rewards of installed packages, found by their entry points.

A package offers a reward by a few lines in its pyproject.toml:

    [project.entry-points."alignflow.rewards"]
    aesthetic = "my_package:Aesthetic"
"""

from importlib.metadata import entry_points
from typing import Any

__all__ = ["GROUP", "installed"]

GROUP = "alignflow.rewards"


def installed() -> dict[str, Any]:
    """Name to class (or function) of each reward that an installed package offers.

    Raises:
        ImportError: If one of them cannot be loaded; it names the package.
        ValueError: If two packages offer the same name.
    """
    found: dict[str, Any] = {}
    for point in entry_points(group=GROUP):
        if point.name in found:
            raise ValueError(f"two installed packages offer a reward {point.name!r}")
        try:
            found[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist else "an unknown package"
            raise ImportError(
                f"the reward {point.name!r} of {package} cannot be loaded from "
                f"{point.value}: {error}"
            ) from error
    return found
