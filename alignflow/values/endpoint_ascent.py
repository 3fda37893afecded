r"""Ascent on the endpoint itself: the reward's gradient is followed where the sample would end.

.. math:: z' = z + \eta \nabla_z \lambda r(z) + \dots, \qquad
    x_{t'} = X_{t,t'}(x_t) + (1-t)\, t'\, (z' - z)

No gradient goes through the network.

Source: FMRG-E (2604.27147). It seeks reward, and what it samples is not the tilt.
"""

import torch

from alignflow import checks
from alignflow.cost import Cost
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.reward_module import Reward, log_tilt

from .estimator import Estimator, Running, no_gradient

__all__ = ["EndpointAscent"]


class EndpointAscent(Estimator):
    """The move (1-t) t' (z' - z) of the state, as a `correction` over the step.

    Args:
        model: Decodes the endpoints.
        reward: A differentiable one.
        strength: lambda of the tilt, per unit of reward.
        step_size: eta, squared units of state (per unit of lambda r).
        inner_steps: Steps of ascent on one endpoint.
    """

    reads = ("time", "target_time", "step_length", "endpoint")
    writes = ("endpoint_reward", "value", "correction")
    climbs = True

    def __init__(
        self,
        model: FlowMap,
        reward: Reward,
        strength: float,
        step_size: float = 0.1,
        inner_steps: int = 4,
    ):
        super().__init__(model, reward, strength)
        self.step_size = checks.nonnegative("step_size", step_size)
        self.inner_steps = checks.count("inner_steps", inner_steps)

    @property
    def cost(self):
        return Cost(reward_calls=self.inner_steps, reward_vjps=self.inner_steps)

    def forward(self, tensordict):
        start = self.read(tensordict, "endpoint").detach()
        endpoint, running = start, Running()
        for k in range(self.inner_steps):
            with torch.enable_grad():
                leaf = endpoint.clone().requires_grad_()
                tried = tensordict.copy().set("endpoint", leaf)
                # what is written is the worth of the endpoint itself, before any ascent
                rewards, _ = self.score(running if k == 0 else Running(), tried)
                worth = log_tilt(rewards, self.strength).nan_to_num(neginf=0.0)
                gradient = None
                if worth.requires_grad:
                    (gradient,) = torch.autograd.grad(worth.sum(), leaf, allow_unused=True)
                if gradient is None:
                    raise no_gradient(self.reward)
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
