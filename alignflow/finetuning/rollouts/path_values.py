r"""The target of adjoint matching by values of paths in place of gradients, by Stein's identity.

.. math:: \mathbb{E}[\nabla J(x_{k+1}) | x_k] = \mathbb{E}\Big[J(x_{k+1})\,
    \frac{\epsilon_k}{\sigma_k} \Big| x_k\Big], \qquad
    J_{k+1} = \lambda r(x_1) - \sum_{j > k} \ell_j, \quad
    \ell_j = \log \frac{p_\theta(x_{j+1} | x_j)}{p(x_{j+1} | x_j)}

J is the strength times the reward of the end, less the log-ratios to the base of the steps that
follow, of whose values a step of the model makes a gradient at no cost. At the tilt it is the
value V_{k+1}(x_{k+1}), whatever the rest of the path is. Of a change delta of the velocity, with
the weight w of the path KL, :math:`\ell = w |\delta|^2 + \sqrt{2 w}\, \delta \cdot \epsilon`.
"""

import torch
from torch import Tensor

from alignflow.interpolants import expand_time
from alignflow.transitions.memoryless import memoryless_step

from .paths import Node

__all__ = ["PathValues"]


class PathValues:
    """J of memoryless paths, from the last step to the first.

    Args:
        log_weight: lambda r of their ends, (N,), -inf for dropped ones, which count as the worst.
        data_std: d of their steps.
    """

    def __init__(self, log_weight: Tensor, data_std: float):
        self.data_std = data_std
        finite = torch.isfinite(log_weight)
        least = log_weight[finite].min() if finite.any() else log_weight.new_zeros(())
        self.value = torch.where(finite, log_weight, least)
        self.after: Tensor | None = None  # where the step ends; None at the end of the path

    @torch.no_grad()
    def before(self, node: Node, end: Tensor, velocity: Tensor) -> Tensor | None:
        """The target at the start of a step, (N, *E); None of the last step, which has no noise.

        Args:
            node: Where it starts; nodes come from the last to the first.
            end: When it ends, (N,).
            velocity: The base's at the node, (N, *E).
        """
        after, change = self.after, node.velocity - velocity
        log_ratio = node.weight * change.square().flatten(1).sum(1)
        self.after, target = node.state, None
        if after is not None:
            mean, std = memoryless_step(node.state, node.velocity, node.time, end, self.data_std)
            noise = (after - mean) / expand_time(std, mean)
            slope = (2 * node.weight).sqrt()
            # the mean of the other rows is a baseline that keeps the mean
            others = (self.value.sum() - self.value) / max(len(self.value) - 1, 1)
            gain = expand_time((self.value - others) / slope, noise)
            target = velocity + gain * noise
            log_ratio = log_ratio + slope * (change * noise).flatten(1).sum(1)
        self.value = self.value - log_ratio
        return target
