r"""An equivariant graph network that is given the forces of its particles.

.. math:: v_{s,t}(x) = \text{EGNN}(x, s, t) + a_{s,t}\, x + g_{s,t}\, \bar f(x / s), \qquad
    f = -\tau \nabla E / T, \quad \tau = (1-s) / s

Late on the path the velocity is x/s + f/s, so that what overlaps is driven apart by the energy
itself, and the network learns what the noise of the path smooths. a and g are learned functions of
the two times. Forces are bounded: those of overlapping particles have no limit.

Samplers call it Langevin preconditioning.

Source: Zhang and Chen 2022 (2111.15141), whose network is an MLP.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignflow import checks
from alignflow.coordinates import from_relative, to_relative
from alignflow.interpolants import expand_time
from alignflow.targets import build_cluster

from .egnn import EGNN
from .embedding import TimePairEmbedding

__all__ = ["ForceEGNN"]

LARGEST = 3.0  # a particle's force times tau, of noise of unit variance
EARLIEST = 0.02  # time up to which tau is held


class ForceEGNN(EGNN):
    """`EGNN` of a cluster whose energy is known, O(D)- and permutation-equivariant.

    Args:
        cluster: Name of the cluster, which has the particles and the dimension.
        temperature: T of the data, in the units of the energy.
        width: Of the features of particles and messages.
        depth: Layers.
        scale: Standard deviation of the data.
        stiffness: Curvature of E / T along a coordinate: forces count where tau^2 is below 1 / it.
    """

    def __init__(
        self,
        cluster: str,
        temperature: float = 1.0,
        width: int = 64,
        depth: int = 5,
        scale: float = 1.0,
        stiffness: float = 250.0,
    ):
        built = build_cluster(cluster)
        super().__init__(built.particles, built.dimension, width, depth, scale)
        self.energy = built.requires_grad_(False)
        self.temperature = checks.positive("temperature", temperature)
        self.stiffness = checks.positive("stiffness", stiffness)
        self.arguments = {
            "cluster": cluster,
            "temperature": temperature,
            "width": width,
            "depth": depth,
            "scale": scale,
            "stiffness": stiffness,
        }
        self.gate_times, self.gates = TimePairEmbedding(width), nn.Linear(width, 2)
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)

    def forward(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """State (N, n-1, D) and times (N,) -> average velocity (N, n-1, D)."""
        linear, gate = (expand_time(part, x) for part in self._coefficients(s, t))
        return super().forward(x, s, t) + linear * x + gate * self._bounded_force(x, s)

    def _coefficients(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and g, (N,) each: the velocity of normal data, and what a well of `stiffness` leaves
        of a force, before anything is learned."""
        shift, factor = self.gates(F.silu(self.gate_times(s, t))).unbind(1)
        time, sigma, variance = s.clamp_min(EARLIEST), 1 - s, self.scale**2
        linear = (s * variance - sigma) / (s.square() * variance + sigma.square())
        damped = 1 + self.stiffness * (sigma / time).square()
        return linear + shift, factor.exp() / (time * damped)

    def _bounded_force(self, x: Tensor, s: Tensor) -> Tensor:
        time = expand_time(s.clamp_min(EARLIEST), x)
        tau = (1 - time) / time
        force = from_relative(tau * self._force(x / time))
        square = force.square().sum(-1, keepdim=True)
        return to_relative(force / (1 + square / LARGEST**2).sqrt())

    def _force(self, x: Tensor) -> Tensor:
        """-grad E / T in relative coordinates, with a graph where the states have one."""
        wanted = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            x = x if wanted else x.detach().requires_grad_()
            energy = self.energy(from_relative(x)).sum() / self.temperature
            (gradient,) = torch.autograd.grad(energy, x, create_graph=wanted)
        return -gradient
