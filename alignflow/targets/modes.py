"""A judge of points: the mode of a mixture that each belongs to."""

from torch import Tensor, nn

from .gaussian_mixture import GaussianMixture
from .grid import GridDensity
from .named import ring

__all__ = ["ModeJudge", "ring_judge"]


class ModeJudge(nn.Module):
    """Logits of the modes of a mixture, exact, with points as features.

    Args:
        mixture: Whose modes.
    """

    exclusive = True

    def __init__(self, mixture: GaussianMixture):
        super().__init__()
        self.mixture = mixture
        self.labels = tuple(f"mode {i + 1}" for i in range(len(mixture.weights)))

    def features(self, points: Tensor) -> Tensor:
        """Points (N, D) as they are."""
        return points

    def forward(self, points: Tensor) -> Tensor:
        """Points (N, D) to log-probabilities of the modes (N, C)."""
        return self.mixture.posterior(points, 1.0).log_weights

    def rates(self, density: GridDensity) -> Tensor:
        """The mass of each mode under a density, such as a tilt by a black box, (C,)."""
        return density.expectation(lambda points: self(points).exp())


def ring_judge() -> ModeJudge:
    """The judge of the ring's eight modes."""
    return ModeJudge(ring())
