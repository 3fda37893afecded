r"""A density in one or two dimensions, normalized by quadrature on a grid.

.. math:: \rho(x) = e^{f(x)} / Z, \qquad Z = h^D \sum_g e^{f(x_g)}

The midpoint rule converges faster than any power of the spacing for smooth densities that vanish at
the box's walls, so this is ground truth for rewards without a closed form.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.draws import choices, uniform
from alignflow.reward_module import Reward, as_reward
from alignflow.tilt import Tilt

from .signed_tilt import as_signed_tilt

__all__ = ["GridDensity"]

POINTS = {1: 8192, 2: 512}
ROWS = 2**14
"""Of the grid, given to a function at a time."""


class GridDensity:
    """A distribution known up to its normalizer, on a box that holds it.

    Args:
        log_density: f, not normalized, from points (N, D) to (N,).
        lower: Corner of the box, (D,), D = 1 or 2.
        upper: The opposite corner, (D,).
        points: Cells along each dimension; by default 8192 in one dimension and 512 in two.

    Raises:
        ValueError: In more than two dimensions, for an empty box, or if the density has no mass.
    """

    def __init__(
        self,
        log_density: Callable[[Tensor], Tensor],
        lower: Tensor,
        upper: Tensor,
        points: int | None = None,
    ):
        lower, upper = checks.as_tensor("lower", lower), checks.as_tensor("upper", upper)
        d = _dimension(lower, upper)
        if d not in POINTS:
            raise ValueError(f"quadrature on a grid is for one or two dimensions, got {d}")
        if not (lower < upper).all() or not torch.isfinite(upper - lower).all():
            raise ValueError(f"a box needs lower < upper, got {lower.tolist()}, {upper.tolist()}")
        count = POINTS[d] if points is None else checks.count("points", points)
        self._function = log_density
        self.lower, self.upper = lower, upper
        self.spacing = (upper - lower) / count
        steps = torch.arange(count, dtype=lower.dtype, device=lower.device) + 0.5
        cells = torch.cartesian_prod(*[steps] * d).reshape(-1, d)
        self.points = lower + self.spacing * cells  # (G, D), centers of the cells
        values = torch.cat([log_density(part) for part in self.points.split(ROWS)])
        self.log_normalizer = values.logsumexp(0) + self.spacing.log().sum()
        if not torch.isfinite(self.log_normalizer):
            raise ValueError(
                f"the density's mass on the box is exp({self.log_normalizer.item()}): not a "
                "distribution"
            )
        self.probabilities = values.softmax(0)  # (G,), of the cells

    def log_density(self, x: Tensor) -> Tensor:
        """(N,), in nats, at points (N, D) on the grid or off it."""
        return self._function(x) - self.log_normalizer

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """E[function(x)] of a function from points (G, D) to (G, ...)."""
        parts = zip(self.probabilities.split(ROWS), self.points.split(ROWS), strict=True)
        return torch.stack([torch.tensordot(p, function(x), dims=1) for p, x in parts]).sum(0)

    def mean_reward(self, reward) -> Tensor:
        """E[r(x)], a scalar."""
        return self.expectation(as_reward(reward).score)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws, (n, D): a cell by its mass, then uniform in it."""
        n, generator = checks.count("n", n), checks.as_generator(generator)
        cells = choices(self.probabilities, n, generator)
        shape = (n, len(self.lower))
        jitter = uniform(shape, generator, self.lower.dtype, self.lower.device)
        return self.points[cells] + self.spacing * (jitter - 0.5)

    def tilted(
        self, reward: Tilt | Reward | Callable[..., Any], strength: float | None = None
    ) -> "GridDensity":
        """The distribution proportional to exp(strength r) times this one, on the same box.

        Its `log_normalizer` is log E[exp(strength r)].

        Args:
            reward: A tilt, or any reward beside its strength.
            strength: lambda, of either sign; None beside a tilt.
        """
        tilt = as_signed_tilt(reward, strength)
        count = round(len(self.points) ** (1 / len(self.lower)))

        def log_density(x: Tensor) -> Tensor:
            return self.log_density(x) + tilt.score(x)[1]

        return GridDensity(log_density, self.lower, self.upper, count)


def _dimension(lower: Tensor, upper: Tensor) -> int:
    if lower.ndim != 1 or lower.shape != upper.shape:
        raise ValueError(
            "lower and upper must be corners, vectors (D,) both, got "
            f"{checks.shown(lower)} and {checks.shown(upper)}"
        )
    return len(lower)
