"""Networks: average velocity from (state, s, t, condition, context).

The table names those that a saved folder may ask for (see `alignflow.checkpoint`)."""

from alignflow.checkpoint import NETWORKS

from .causal import CausalTransformer
from .dit import DiT
from .egnn import EGNN
from .mlp import MLP
from .strength import NAME as STRENGTH
from .strength import StrengthNetwork
from .token_dit import TokenDiT
from .token_mlp import TokenMLP
from .unet import UNet

__all__ = [
    "EGNN",
    "MLP",
    "NETWORKS",
    "CausalTransformer",
    "DiT",
    "StrengthNetwork",
    "TokenDiT",
    "TokenMLP",
    "UNet",
]

NETWORKS.update(
    mlp=MLP,
    unet=UNet,
    dit=DiT,
    egnn=EGNN,
    token_dit=TokenDiT,
    token_mlp=TokenMLP,
    **{STRENGTH: StrengthNetwork},
)
