r"""A Gaussian in place of the posterior: exact for standard normal data.

.. math:: z = D_t(x_t) + r_t \epsilon, \qquad r_t^2 = \frac{(1-t)^2}{t^2 + (1-t)^2}

Source: LGD (Song et al. 2023), with the std of standard normal data.
"""

from alignflow.interpolants import expand_time

from .base import DrawnPosterior

__all__ = ["GaussianPosterior"]


class GaussianPosterior(DrawnPosterior):
    """Draws about the denoiser: one forward for all of them, biased."""

    def forward(self, tensordict):
        state, time, condition = self.rows(tensordict)
        denoiser = self.model.denoiser(state, time, condition)
        std = (1 - time) / (time.square() + (1 - time).square()).sqrt()
        noise = self.read(tensordict, "endpoint_noise")
        endpoint = denoiser.unsqueeze(1) + expand_time(std, noise) * noise
        return self.write(tensordict, endpoint=endpoint)
