r"""The proposal of a diffusion waltz: the sample noised to a random time.

.. math:: x_t = t\,x_1 + (1-t)\,\epsilon, \qquad t \sim U(t_{\min}, t_{\max})

A draw of the posterior given x_t is then a proposal that is reversible for the base: the joint
distribution of x_1, x_t and the draw is symmetric in the two endpoints.
"""

import torch
from tensordict import TensorDictBase

from alignflow import draws
from alignflow.graph import Node, noise_like
from alignflow.interpolants import expand_time

__all__ = ["Noising"]


class Noising(Node):
    """Noises a finished sample to a random time.

    Args:
        t_min: Earliest time.
        t_max: Latest time, below 1.
    """

    reads = ("state", "time_noise", "step_noise")
    optional = ("reach",)
    writes = ("sample", "state", "time")
    noise = ("time_noise", "step_noise")
    whole_batch = True

    def __init__(self, t_min: float, t_max: float):
        super().__init__()
        self.t_min, self.t_max = t_min, t_max

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        state = self.read(tensordict, "state")
        uniform = draws.uniform(state.shape[:1], generator, state.dtype, state.device)
        self.write(
            tensordict, time_noise=uniform, step_noise=noise_like(state, generator=generator)
        )

    def forward(self, tensordict):
        sample, uniform, noise = (self.read(tensordict, key) for key in self.reads)
        reach = self.read(tensordict, "reach")
        if reach is not None:
            uniform = uniform ** reach.exp()
        time = self.t_min + (self.t_max - self.t_min) * uniform
        wide = expand_time(time, sample)
        state = wide * sample + (1 - wide) * noise
        return self.write(tensordict, sample=sample, state=state, time=time)

    def extra_repr(self) -> str:
        return f"t in ({self.t_min:g}, {self.t_max:g})"
