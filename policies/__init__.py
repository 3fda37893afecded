"""Policies: networks and callables as flow maps, and the models that are shipped."""

from alignflow.values import load_value

from .callables import MapPolicy, VelocityPolicy, from_flow_map, from_velocity
from .judges import Judge, load_judge
from .loading import load_policy
from .networks import EGNN, MLP, CausalTransformer, DiT, ForceEGNN, TokenDiT, TokenMLP, UNet
from .policy import FlowMapPolicy
from .text import text_policy
from .zoo import load, shipped

__all__ = [
    "EGNN",
    "MLP",
    "CausalTransformer",
    "DiT",
    "FlowMapPolicy",
    "ForceEGNN",
    "Judge",
    "MapPolicy",
    "TokenDiT",
    "TokenMLP",
    "UNet",
    "VelocityPolicy",
    "from_flow_map",
    "from_velocity",
    "load",
    "load_judge",
    "load_policy",
    "load_value",
    "shipped",
    "text_policy",
]
