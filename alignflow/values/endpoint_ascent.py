r"""Gradient ascent of the reward on the endpoint, without a gradient through the network.

.. math:: z' = z + \eta \nabla_z \lambda r(z) + \dots, \qquad
    x_{t'} = X_{t,t'}(x_t) + (1-t)\, t'\, (z' - z)

Source: FMRG-E (2604.27147). It seeks reward, and what it samples is not the tilt.
"""

import torch

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.tilt import Tilt

from .estimator import Estimator, Running, no_gradient

__all__ = ["EndpointAscent"]


class EndpointAscent(Estimator):
    """The move (1-t) t' (z' - z) of the state, as a `correction` over the step.

    Args:
        model: Decodes the endpoints.
        tilt: Of a differentiable reward.
        step_size: eta, squared units of state (per unit of lambda r).
        inner_steps: Steps of ascent on one endpoint.
    """

    reads = ("time", "target_time", "step_length", "endpoint")
    writes = ("endpoint_reward", "value", "correction")
    needs_reward_gradient = True

    def __init__(
        self,
        model: FlowMap,
        tilt: Tilt,
        step_size: float = 0.1,
        inner_steps: int = 4,
    ):
        super().__init__(model, tilt)
        self.step_size = checks.nonnegative("step_size", step_size)
        self.inner_steps = checks.count("inner_steps", inner_steps)

    def forward(self, tensordict):
        start = self.read(tensordict, "endpoint").detach()
        endpoint, running = start, Running()
        for k in range(self.inner_steps):
            with torch.enable_grad():
                leaf = endpoint.clone().requires_grad_()
                tried = tensordict.copy().set("endpoint", leaf)
                # what is written is the value of the endpoint itself, before any ascent
                rewards, _ = self.score(running if k == 0 else Running(), tried)
                log_weight = self.tilt.log_weight(rewards).nan_to_num(neginf=0.0)
                gradient = None
                if log_weight.requires_grad:
                    (gradient,) = torch.autograd.grad(log_weight.sum(), leaf, allow_unused=True)
                if gradient is None:
                    raise no_gradient(self.tilt.reward)
            endpoint = endpoint + self.step_size * gradient
        time, target, length = (
            expand_time(self.read(tensordict, key), start[:, 0])
            for key in ("time", "target_time", "step_length")
        )
        move = (1 - time) * target * (endpoint - start)[:, 0]
        self.write(tensordict, correction=move / length)
        return self.finish(running, tensordict)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, step_size={self.step_size:g}, {self.inner_steps} steps"
