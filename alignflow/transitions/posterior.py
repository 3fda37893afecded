r"""Steps by draws of the posterior: the model's stochastic transition, without corrections.

.. math:: p(x_{t'} | x_t) = \int p(x_{t'} | x_t, x_1)\, p(x_1 | x_t)\, dx_1

on a memoryless path (the correlation of DDPM). `GLASSTransition` draws from it by an inner flow of
the pretrained denoiser, straight to t'; `Bridge` by a posterior's draw and the bridge to it;
`Renoise` forgets x_t and keeps the marginal only.

Sources: GLASS Flows (2509.25170), Diamond Maps (2602.05993), Meta Flow Maps (2601.14430).
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.posteriors import DrawnPosterior
from alignflow.posteriors.glass import check_inner, inner_flow

from .base import NoisyTransition
from .memoryless import memoryless_std, noise_weight

__all__ = ["Bridge", "GLASSTransition", "Renoise", "bridge"]


def bridge(x: Tensor, t: Tensor, endpoint: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    """x_{t'} given x_t and x_1 on a memoryless path, (N, *E), from standard normal noise."""
    std = memoryless_std(t, target)
    rest = noise_weight(target, std)
    t, target, std, rest = (expand_time(value, x) for value in (t, target, std, rest))
    return target * endpoint + rest * (x - t * endpoint) / (1 - t) + std * noise


class PosteriorTransition(NoisyTransition):
    """A step that draws the next state and takes no correction."""

    optional = ("condition",)
    corrects = False


class Bridge(PosteriorTransition):
    """A draw of the posterior, then the bridge to it.

    Args:
        posterior: Draws one endpoint of each row.
    """

    reads = ("state", "time", "target_time", "step_noise", "step_endpoint_noise")
    noise = ("step_noise", "step_endpoint_noise")

    def __init__(self, posterior: DrawnPosterior):
        super().__init__()
        posterior.rename(endpoint="step_endpoint", endpoint_noise="step_endpoint_noise")
        self.posterior = posterior

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        super().draw(tensordict, generator)
        self.posterior.draw(tensordict, generator)

    def forward(self, tensordict):
        x, t, target, noise, _ = (self.read(tensordict, key) for key in self.reads)
        endpoint = self.posterior(tensordict).get("step_endpoint")[:, 0]
        moved = bridge(x, t, endpoint, target, noise)
        return self.write(tensordict, state=moved, time=target)

    def extra_repr(self) -> str:
        return repr(self.posterior)


class GLASSTransition(PosteriorTransition):
    r"""The inner flow of GLASS from noise directly to x_{t'}.

    .. math:: x_{t'} = (t' - \gamma t)\, x_1 + \gamma\, x_t + \sigma \epsilon, \qquad
        \gamma = \frac{\sqrt{(1-t')^2 - \sigma^2}}{1-t}

    with sigma of `memoryless_std`.

    Args:
        model: The frozen flow map.
        inner_steps: Steps of the inner flow.
        solver: As `GLASSPosterior` takes.
    """

    def __init__(self, model: FlowMap, inner_steps: int = 4, solver: str = "heun"):
        super().__init__()
        self.model, (self.inner_steps, self.solver) = model, check_inner(inner_steps, solver)

    def forward(self, tensordict):
        x, t, target, noise = (self.read(tensordict, key) for key in self.reads)
        condition = self.read(tensordict, "condition")
        std = memoryless_std(t, target)
        gamma = noise_weight(target, std) / (1 - t)
        how = (condition, self.inner_steps, self.solver)
        rest = inner_flow(self.model, x, t, noise, target - gamma * t, std, *how)
        return self.write(tensordict, state=rest + expand_time(gamma, x) * x, time=target)

    def extra_repr(self) -> str:
        return f"inner_steps={self.inner_steps}, {self.solver}"


class Renoise(PosteriorTransition):
    """The chosen endpoint noised to the target time, independent of the state."""

    reads = ("target_time", "endpoint", "step_noise")
    optional = ()

    def forward(self, tensordict):
        target, endpoint, noise = (self.read(tensordict, key) for key in self.reads)
        if endpoint.shape[1] != 1:
            raise ValueError(f"{self!r} renoises one endpoint a row, got {endpoint.shape[1]}")
        target_time = expand_time(target, noise)
        moved = target_time * endpoint[:, 0] + (1 - target_time) * noise
        return self.write(tensordict, state=moved, time=target)
