"""Defaults that follow from the model: what an option of None stands for.

A map that was learned jumps in one forward and keeps its marginals at any step length, but a long
step of its SDE, which holds the endpoint at the denoiser, is too narrow. Particles of such a map
are moved by its jumps (`anchored`), in few steps. A model whose jumps are computed, in closed form
or by an ODE solver, has particles that are moved by its SDE, in more steps. Draws of the posterior
take one forward of a stochastic map, and an inner flow (`glass`) of any other model.

A printed steerer shows what was chosen.
"""

from alignflow.flow_map import FlowMap

__all__ = ["default_posterior", "default_steps", "default_transition"]

FEW_STEPS, STEPS = 4, 8


def default_transition(model: FlowMap) -> str:
    """Name of the transition by which particles of a model move."""
    return "anchored" if model.few_step else "sde"


def default_steps(model: FlowMap) -> int:
    """Steps in which they move."""
    return FEW_STEPS if model.few_step else STEPS


def default_posterior(model: FlowMap) -> str:
    """Name of the posterior that draws endpoints of a model."""
    return "stochastic_map" if model.has_posterior_flow else "glass"
