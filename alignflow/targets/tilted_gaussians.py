r"""The tilt of Gaussians by a quadratic reward: completing the square.

.. math:: \Sigma'_c = (\Sigma_c^{-1} + \lambda P)^{-1}, \qquad
    m'_c = m_c + \lambda \Sigma'_c \nabla r(m_c), \qquad
    \log \frac{w'_c}{w_c} = \lambda r(m_c)
        + \tfrac{\lambda^2}{2} \nabla r(m_c)^\top \Sigma'_c \nabla r(m_c)
        - \tfrac12 \log \det (I + \lambda \Sigma_c P)
"""

import torch
from torch import Tensor

from alignflow.tilt import Tilt

from .gaussians import Gaussians
from .rewards import quadratic_form

__all__ = ["tilted_gaussians"]


def tilted_gaussians(prior: Gaussians, tilt: Tilt) -> tuple[Tensor, Tensor, Tensor]:
    """The measure exp(strength r) rho, not normalized, component by component.

    Args:
        prior: Mixtures rho, with batch dimensions *B or none.
        tilt: By a reward with a quadratic form.

    Returns:
        Log-masses (*B, C), whose logsumexp is log E[exp(strength r)]; means (*B, C, D); and
        covariances (*B, C, D, D).

    Raises:
        ValueError: If the reward has no quadratic form, or grows faster than some component decays.
    """
    form = quadratic_form(tilt.reward)
    if form is None:
        raise ValueError(f"reward {tilt.reward.name!r} has no quadratic form")
    # through a square root of the covariance, so that a component of variance 0 is no special case
    root = prior.axes * prior.variances.sqrt().unsqueeze(-2)
    identity = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
    inner = identity + tilt.strength * root.mT @ form.precision.to(root) @ root
    factor, failed = torch.linalg.cholesky_ex(inner)
    if failed.any():
        raise ValueError(
            f"no distribution is proportional to exp({tilt.strength} r) times this one: "
            "the reward grows faster than a Gaussian decays"
        )
    tilted_root = torch.linalg.solve_triangular(factor, root.mT, upper=False).mT
    covariances = tilted_root @ tilted_root.mT
    gradient = tilt.strength * form.gradient(prior.means)
    projected = torch.einsum("...ij,...i->...j", tilted_root, gradient)
    means = prior.means + torch.einsum("...ij,...j->...i", tilted_root, projected)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    change = tilt.log_weight(form(prior.means)) + projected.square().sum(-1) / 2
    return prior.log_weights + (change - log_determinant / 2), means, covariances
