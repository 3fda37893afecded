r"""The stochastic flow map: one forward a draw, by a model that was trained for it.

.. math:: z = X_{0,1}(\epsilon; t, x_t) \sim p(x_1 | x_t)

Sources: Meta Flow Maps (2601.14430), Diamond Maps (2602.05993).
"""

from alignflow.flow_map import FlowMap

from .base import DrawnPosterior

__all__ = ["StochasticMapPosterior"]


class StochasticMapPosterior(DrawnPosterior):
    """Draws by the model's `posterior_flow`: exact for a target, learned for a network.

    Args:
        model: A flow map with `posterior_flow(noise, x, t, condition)`.
        draws: K, endpoints of each row.

    Raises:
        ValueError: If the model has none.
    """

    def __init__(self, model: FlowMap, draws: int = 1):
        super().__init__(model, draws)
        if not model.has_posterior_flow:
            raise ValueError(
                "this model has no stochastic flow map (no network with a context was trained): "
                "the posterior 'glass' draws from any model, 'renoised' from any flow map"
            )

    def forward(self, tensordict):
        state, time, condition = self.rows(tensordict)
        noise = self.read(tensordict, "endpoint_noise")
        endpoint = self.model.posterior_flow(noise, state, time, condition)
        return self.write(tensordict, endpoint=endpoint)
