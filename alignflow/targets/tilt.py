r"""The tilt of Gaussians by a quadratic reward: completing the square.

.. math:: \Sigma'_c = (\Sigma_c^{-1} + \lambda P)^{-1}, \qquad
    m'_c = m_c + \lambda \Sigma'_c \nabla r(m_c), \qquad
    \log \frac{w'_c}{w_c} = \lambda r(m_c)
        + \tfrac{\lambda^2}{2} \nabla r(m_c)^\top \Sigma'_c \nabla r(m_c)
        - \tfrac12 \log \det (I + \lambda \Sigma_c P)
"""

import torch
from torch import Tensor

from .gaussians import Gaussians
from .rewards import QuadraticForm

__all__ = ["tilt_gaussians"]


def tilt_gaussians(
    prior: Gaussians, form: QuadraticForm, strength: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The measure exp(strength r) rho, not normalized, component by component.

    Args:
        prior: Mixtures rho, with batch dimensions *B or none.
        form: r.
        strength: lambda, of either sign.

    Returns:
        Log-masses (*B, C), whose logsumexp is log E[exp(strength r)]; means (*B, C, D); and
        covariances (*B, C, D, D).

    Raises:
        ValueError: If the reward grows faster than some component decays.
    """
    # through a square root of the covariance, so that a component without spread is no special case
    root = prior.axes * prior.variances.sqrt().unsqueeze(-2)
    identity = torch.eye(root.shape[-1]).to(root)
    inner = identity + strength * root.mT @ form.precision.to(root) @ root
    factor, failed = torch.linalg.cholesky_ex(inner)
    if failed.any():
        raise ValueError(
            f"no law is proportional to exp({strength} r) times this one: "
            "the reward grows faster than a Gaussian decays"
        )
    tilted_root = torch.linalg.solve_triangular(factor, root.mT, upper=False).mT
    covariances = tilted_root @ tilted_root.mT
    gradient = strength * form.gradient(prior.means)
    projected = torch.einsum("...ij,...i->...j", tilted_root, gradient)
    means = prior.means + torch.einsum("...ij,...j->...i", tilted_root, projected)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    gain = strength * form(prior.means) + projected.square().sum(-1) / 2 - log_determinant / 2
    return prior.log_weights + gain, means, covariances
