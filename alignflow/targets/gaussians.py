r"""The algebra of Gaussian mixtures: one for all samples, or one for each.

Covariances are stored by their axes, Sigma_c = U_c diag(lambda_c) U_c^T. On the path from noise the
axes stay as they are, so everything conditional is diagonal along them, and no formula divides by
t or by 1 - t.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alignflow.draws import choices, normal

__all__ = ["Gaussians"]


@dataclass(frozen=True)
class Gaussians:
    """Mixtures of C Gaussians in D dimensions, with batch dimensions *B or none.

    States are (*B, D); a mixture without batch dimensions serves states of any.
    """

    log_weights: Tensor
    """(*B, C), normalized."""
    centers: Tensor
    """(*B, C, D), the means along the axes."""
    variances: Tensor
    """(*B, C, D), along the axes."""
    axes: Tensor
    """(C, D, D), one axis a column."""

    @property
    def weights(self) -> Tensor:
        """(*B, C)."""
        return self.log_weights.exp()

    @property
    def means(self) -> Tensor:
        """(*B, C, D)."""
        return self.turned(self.centers)

    @property
    def covariances(self) -> Tensor:
        """(*B, C, D, D)."""
        return (self.axes * self.variances.unsqueeze(-2)) @ self.axes.mT

    def for_draws(self) -> "Gaussians":
        """The same mixtures for states (*B, K, D)."""
        return replace(
            self,
            log_weights=self.log_weights.unsqueeze(-2),
            centers=self.centers.unsqueeze(-3),
            variances=self.variances.unsqueeze(-3),
        )

    def noised(self, t: Tensor) -> "Gaussians":
        """The distribution of (1-t) x0 + t x1 at times (*B,)."""
        t = t[..., None, None]
        variances = t.square() * self.variances + (1 - t).square()
        return replace(self, centers=t * self.centers, variances=variances)

    def offsets(self, x: Tensor) -> Tensor:
        """Where states lie from each mean, along its axes, (*B, C, D)."""
        return (x @ self._all_axes).unflatten(-1, self.axes.shape[:2]) - self.centers

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_c N(x; m_c, Sigma_c), (*B, C)."""
        return self._log_joint(self.offsets(x))

    def log_density(self, x: Tensor) -> Tensor:
        """(*B,)."""
        return self.log_joint(x).logsumexp(-1)

    def posterior(self, x: Tensor, t: Tensor) -> "Gaussians":
        """The distribution of x1 given (1-t) x0 + t x1 = x, one mixture a state."""
        noised = self.noised(t)
        offsets, t = noised.offsets(x), t[..., None, None]
        return replace(
            self,
            log_weights=_normalized(noised._log_joint(offsets)),
            centers=self.centers + t * self.variances / noised.variances * offsets,
            variances=(1 - t).square() * self.variances / noised.variances,
        )

    def denoiser(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x1 | x_t = x], (*B, D)."""
        posterior = self.posterior(x, t)
        return self._sum(posterior.weights, posterior.centers)

    def velocity(self, x: Tensor, t: Tensor, weights: Tensor | None = None) -> Tensor:
        """E[x1 - x0 | x_t = x], (*B, D): of the components, with weights (*B, C) in place of
        the posterior's if given."""
        noised = self.noised(t)
        offsets, t = noised.offsets(x), t[..., None, None]
        if weights is None:
            weights = _normalized(noised._log_joint(offsets)).exp()
        factor = (t * self.variances - (1 - t)) / noised.variances
        return self._sum(weights, self.centers + factor * offsets)

    def score(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """grad log density, (*B, D): of the components, with weights as in `velocity`."""
        offsets = self.offsets(x)
        if weights is None:
            weights = _normalized(self._log_joint(offsets)).exp()
        return -self._sum(weights, offsets / self.variances)

    def transport(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """The flow map of each component alone, from s to t, (*B, C, D)."""
        start, end = self.noised(s), self.noised(t)
        ratio = (end.variances / start.variances).sqrt()
        return self.turned(end.centers + ratio * start.offsets(x))

    def sample(self, k: int, generator: torch.Generator | None = None) -> Tensor:
        """k independent draws of each mixture, (*B, k, D), for one batch dimension or none."""
        weights = self.weights.detach()
        chosen = choices(weights, k, generator)
        centers = self._chosen(self.centers, chosen)
        variances = self._chosen(self.variances, chosen)
        noise = normal(centers.shape, generator, centers.dtype, centers.device)
        along_axes = centers + variances.sqrt() * noise
        return torch.einsum("...ij,...j->...i", self.axes[chosen], along_axes)

    def turned(self, along_axes: Tensor) -> Tensor:
        """Vectors (*B, C, D) given along each component's axes, in the states' coordinates."""
        return torch.einsum("cij,...cj->...ci", self.axes, along_axes)

    @property
    def _all_axes(self) -> Tensor:
        """Every component's axes as the columns of one matrix, (D, C D)."""
        return self.axes.transpose(0, 1).flatten(1)

    def _log_joint(self, offsets: Tensor) -> Tensor:
        quadratic = (offsets.square() / self.variances + self.variances.log()).sum(-1)
        return self.log_weights - (quadratic + offsets.shape[-1] * math.log(2 * math.pi)) / 2

    def _sum(self, weights: Tensor, along_axes: Tensor) -> Tensor:
        """Of vectors (*B, C, D), each along its component's axes, with weights (*B, C): (*B, D)."""
        return (weights.unsqueeze(-1) * along_axes).flatten(-2) @ self._all_axes.mT

    def _chosen(self, values: Tensor, chosen: Tensor) -> Tensor:
        return values.gather(-2, chosen.unsqueeze(-1).expand(*chosen.shape, values.shape[-1]))


def _normalized(log_weights: Tensor) -> Tensor:
    """log_softmax over the last dimension; torch's own is several times slower for few classes."""
    return log_weights - log_weights.logsumexp(-1, keepdim=True)
