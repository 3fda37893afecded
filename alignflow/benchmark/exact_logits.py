r"""A network that begins as the exact denoiser of a list of strings, for tuners to change.

.. math:: \delta_{s,t}(x) = \sum_i \mathrm{softmax}_i \big( \log p(i \mid x_s = x)
    + f_i(x, s) + (t - s)\, g_i(x, s, t) \big)\, \mathrm{onehot}_i

f and g are perceptrons whose last layers begin at zero: at first it is the denoiser for all t.
"""

import torch
from torch import Tensor, nn

from alignflow.simplex import one_hot_states, token_log_likelihood
from alignflow.targets import Sequences

__all__ = ["ExactLogits"]

LEAST = 1e-6  # probability of a token; its logarithm is finite where the token is ruled out


class ExactLogits(nn.Module):
    """Logits of a mixture of a list's strings, exact on the diagonal before anything is learned.

    Args:
        target: The list.
        width: Hidden units of a layer.
        depth: Hidden layers.
    """

    states: Tensor
    log_weight: Tensor

    def __init__(self, target: Sequences, width: int = 128, depth: int = 2):
        super().__init__()
        states = one_hot_states(target.data, target.event_shape[1]).flatten(1)
        self.register_buffer("states", states)
        self.register_buffer("log_weight", target.log_weight.to(states))
        n, dimension = states.shape
        self.diagonal = _perceptron(dimension + n + 1, width, depth, n)
        self.jump = _perceptron(dimension + n + 2, width, depth, n)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """State (N, L, V), times (N,) -> logits (N, L, V)."""
        exact = self.log_weight + token_log_likelihood(x, s).flatten(1) @ self.states.T
        read = [x.flatten(1), exact.softmax(1), s[:, None]]
        jump = self.jump(torch.cat([*read, t[:, None]], dim=1))
        learned = self.diagonal(torch.cat(read, dim=1)) + (t - s)[:, None] * jump
        mixture = (exact + learned).softmax(1) @ self.states
        return mixture.clamp(min=LEAST).log().view_as(x)


def _perceptron(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    sizes = [inputs, *[width] * depth]
    layers: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(before, after), nn.GELU()]
    last = nn.Linear(width, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
