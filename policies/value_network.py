"""Networks for learned values: small ones, of the kind of the policy's."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from .networks import EGNN, MLP, DiT, TokenDiT, TokenMLP, UNet

__all__ = ["network_like"]

# what stays as it is in the policy's network
KEPT = {
    MLP: ("dimension", "classes"),
    UNet: ("channels", "classes"),
    DiT: ("channels", "size", "patch", "classes"),
    EGNN: ("particles", "dimension"),
    TokenDiT: ("length", "vocabulary", "classes", "infill"),
    TokenMLP: ("length", "vocabulary", "infill"),
}
SMALL: dict[type, dict[str, Any]] = {
    MLP: {"width": 128, "depth": 3},
    UNet: {"widths": (32, 64), "blocks": 1, "attention": (False, False), "patch": 2},
    DiT: {"width": 96, "depth": 3, "heads": 3},
    EGNN: {"width": 32, "depth": 3},
    # what it would add to the logits grows without bound towards the data
    TokenDiT: {"width": 96, "depth": 2, "heads": 4, "likelihood": False},
    TokenMLP: {"width": 128, "depth": 2},
}


def network_like(network: nn.Module, event_shape: Sequence[int]) -> nn.Module | None:
    """A small network for states that a policy's network takes; None where none is known.

    A network of the user's own is followed by the shape of its states: an MLP for vectors, a UNet
    for images.

    Args:
        network: Of the policy.
        event_shape: Of its states.
    """
    kind: Any = type(network)
    if kind in SMALL:
        arguments: Any = network.arguments
        made = kind(**{name: arguments[name] for name in KEPT[kind]} | SMALL[kind])
        # images of odd sides are not folded
        return made if made.takes(event_shape) else None
    if isinstance(network, EGNN):
        # without the forces, which are no part of a value
        return EGNN(event_shape[0] + 1, event_shape[1], **SMALL[EGNN])
    if len(event_shape) == 1:
        return MLP(event_shape[0], **SMALL[MLP])
    if len(event_shape) == 3:
        made = UNet(event_shape[0], **SMALL[UNet])
        return made if made.takes(event_shape) else None
    return None
