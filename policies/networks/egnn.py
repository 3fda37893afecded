"""An equivariant graph network for clusters of identical particles, in relative coordinates."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.coordinates import from_relative, to_relative

from .embedding import TimePairEmbedding

__all__ = ["EGNN"]


class EGNN(nn.Module):
    """Average velocity of clusters of particles, O(D)- and permutation-equivariant.

    Args:
        particles: n.
        dimension: D.
        width: Of the features of particles and messages.
        depth: Layers.
        scale: Standard deviation of the data; inputs are divided and outputs multiplied by it.

    Source: Satorras et al. 2021 (2102.09844), with a message for each two particles, times in place
    of the particles' features, and tanh on the weights of directions, as its flows have it.
    """

    def __init__(
        self,
        particles: int,
        dimension: int = 3,
        width: int = 64,
        depth: int = 4,
        scale: float = 1.0,
    ):
        super().__init__()
        particles = checks.count("particles", particles, least=2)
        dimension = checks.count("dimension", dimension)
        width, depth = checks.count("width", width), checks.count("depth", depth)
        scale = checks.positive("scale", scale)
        self.arguments = {
            "particles": particles,
            "dimension": dimension,
            "width": width,
            "depth": depth,
            "scale": scale,
        }
        self.scale, self.event_shape = scale, (particles - 1, dimension)
        self.times = TimePairEmbedding(width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(depth))

    def takes(self, event_shape: Sequence[int]) -> bool:
        """Whether it takes states of a shape."""
        return tuple(event_shape) == self.event_shape

    def readout(self, x: Tensor, velocity: Tensor) -> Tensor:
        """A number (N,) of a state and the average velocity there, O(D)- and permutation-invariant.

        It is what a value is made of: their product, a particle.
        """
        return (x * velocity).flatten(1).sum(1) / x.shape[1]

    def forward(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """State (N, n-1, D) and times (N,) -> average velocity (N, n-1, D)."""
        start = place = from_relative(x / self.scale)
        # a copy of each: products with one that is shared are rounded otherwise by frozen weights
        features = self.times(s, t)[:, None].repeat(1, place.shape[1], 1)
        first = _square_distances(start)
        for layer in self.layers:
            place, features = layer(place, features, first)
        return to_relative(place - start) * self.scale


class _Layer(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.pair = nn.Linear(2 * width + 2, width)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        last = nn.Linear(width, 1)
        self.weight = nn.Sequential(nn.Linear(width, width), nn.SiLU(), last)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        # a step starts small, or the places of many particles run away
        nn.init.xavier_uniform_(last.weight, gain=1e-2)

    def forward(self, place: Tensor, features: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        square = _square_distances(place)
        others = 1 - torch.eye(place.shape[1], dtype=place.dtype, device=place.device)[..., None]
        message = self.message(self._paired(features, square, first)) * others
        offset = place[:, :, None] - place[:, None]
        # unit directions but for close pairs, where a direction means nothing
        unit = offset / (square[..., None] + 1).sqrt()
        place = place + (unit * torch.tanh(self.weight(message)) * others).sum(2)
        gathered = torch.cat([features, message.sum(2)], dim=-1)
        return place, features + self.update(gathered)

    def _paired(self, features: Tensor, square: Tensor, first: Tensor) -> Tensor:
        """`pair` of the features of each two particles and of their distances, (N, n, n, width).

        What is linear in one particle is computed once for it and not once for each of its pairs.
        """
        width = features.shape[-1]
        one, other, apart = self.pair.weight.split([width, width, 2], dim=1)
        distances = F.linear(torch.stack([square, first], dim=-1), apart, self.pair.bias)
        return distances + F.linear(features, one)[:, :, None] + F.linear(features, other)[:, None]


def _square_distances(place: Tensor) -> Tensor:
    """Between each two particles, (N, n, n)."""
    return (place[:, :, None] - place[:, None]).square().sum(-1)
