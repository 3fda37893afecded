r"""The algebra of Gaussian mixtures: one for all samples, or one for each.

Covariances are kept by their axes, Sigma_c = U_c diag(lambda_c) U_c^T. On the path from noise the
axes stay as they are, so everything conditional is diagonal along them, and no formula divides by
t or by 1 - t.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Gaussians", "weighted_sum"]


@dataclass(frozen=True)
class Gaussians:
    """Mixtures of C Gaussians in D dimensions, with batch dimensions *B or none.

    States are (*B, D); a mixture without batch dimensions serves states of any.
    """

    log_weights: Tensor
    """(*B, C), normalized."""
    means: Tensor
    """(*B, C, D)."""
    variances: Tensor
    """(*B, C, D), along the axes."""
    axes: Tensor
    """(C, D, D), one axis a column."""

    @property
    def weights(self) -> Tensor:
        """(*B, C)."""
        return self.log_weights.exp()

    @property
    def covariances(self) -> Tensor:
        """(*B, C, D, D)."""
        return (self.axes * self.variances.unsqueeze(-2)) @ self.axes.mT

    def for_draws(self) -> "Gaussians":
        """The same mixtures for states (*B, K, D)."""
        return replace(
            self,
            log_weights=self.log_weights.unsqueeze(-2),
            means=self.means.unsqueeze(-3),
            variances=self.variances.unsqueeze(-3),
        )

    def noised(self, t: Tensor) -> "Gaussians":
        """The law of (1-t) x0 + t x1 at times (*B,)."""
        t = t[..., None, None]
        variances = t.square() * self.variances + (1 - t).square()
        return replace(self, means=t * self.means, variances=variances)

    def offsets(self, x: Tensor) -> Tensor:
        """Where states lie from each mean, along its axes, (*B, C, D)."""
        return torch.einsum("cji,...cj->...ci", self.axes, x.unsqueeze(-2) - self.means)

    def log_joint(self, x: Tensor) -> Tensor:
        """log w_c N(x; m_c, Sigma_c), (*B, C)."""
        quadratic = self.offsets(x).square() / self.variances + self.variances.log()
        return self.log_weights - (quadratic.sum(-1) + x.shape[-1] * math.log(2 * math.pi)) / 2

    def log_density(self, x: Tensor) -> Tensor:
        """(*B,)."""
        return self.log_joint(x).logsumexp(-1)

    def posterior(self, x: Tensor, t: Tensor) -> "Gaussians":
        """The law of x1 given (1-t) x0 + t x1 = x, one mixture a state."""
        noised = self.noised(t)
        t = t[..., None, None]
        gain = t * self.variances / noised.variances
        return replace(
            self,
            log_weights=noised.log_joint(x).log_softmax(-1),
            means=self.means + self.turned(gain * noised.offsets(x)),
            variances=(1 - t).square() * self.variances / noised.variances,
        )

    def denoiser(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x1 | x_t = x], (*B, D)."""
        posterior = self.posterior(x, t)
        return weighted_sum(posterior.weights, posterior.means)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x1 - x0 | x_t = x], (*B, D)."""
        return weighted_sum(self.noised(t).log_joint(x).softmax(-1), self.velocities(x, t))

    def velocities(self, x: Tensor, t: Tensor) -> Tensor:
        """Each component's own E[x1 - x0 | x_t = x], (*B, C, D)."""
        noised = self.noised(t)
        t = t[..., None, None]
        gain = (t * self.variances - (1 - t)) / noised.variances
        return self.means + self.turned(gain * noised.offsets(x))

    def score(self, x: Tensor) -> Tensor:
        """grad log density, (*B, D)."""
        return weighted_sum(self.log_joint(x).softmax(-1), self.scores(x))

    def scores(self, x: Tensor) -> Tensor:
        """Each component's own grad log density, (*B, C, D)."""
        return -self.turned(self.offsets(x) / self.variances)

    def transport(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Each component's own flow map from s to t, (*B, C, D)."""
        start, end = self.noised(s), self.noised(t)
        ratio = (end.variances / start.variances).sqrt()
        return end.means + self.turned(ratio * start.offsets(x))

    def sample(self, k: int, generator: torch.Generator | None = None) -> Tensor:
        """k independent draws of each mixture, (*B, k, D), for one batch dimension or none."""
        weights = self.weights.detach()
        chosen = torch.multinomial(weights, k, replacement=True, generator=generator)
        means, variances = self._chosen(self.means, chosen), self._chosen(self.variances, chosen)
        noise = torch.randn(
            means.shape, generator=generator, dtype=means.dtype, device=means.device
        )
        return means + torch.einsum("...ij,...j->...i", self.axes[chosen], variances.sqrt() * noise)

    def _chosen(self, values: Tensor, chosen: Tensor) -> Tensor:
        return values.gather(-2, chosen.unsqueeze(-1).expand(*chosen.shape, values.shape[-1]))

    def turned(self, along_axes: Tensor) -> Tensor:
        """Vectors (*B, C, D) given along each component's axes, in the states' coordinates."""
        return torch.einsum("cij,...cj->...ci", self.axes, along_axes)


def weighted_sum(weights: Tensor, each: Tensor) -> Tensor:
    """Of vectors (*B, C, D) under weights (*B, C), (*B, D)."""
    return torch.einsum("...c,...cd->...d", weights, each)
