"""A fresh policy that writes the strings of a data set."""

from alignflow import checks
from alignflow.data import Infilling, Strings

from .networks import TokenDiT
from .policy import FlowMapPolicy

__all__ = ["text_policy"]


def text_policy(
    strings: Strings | Infilling, width: int = 128, depth: int = 4, heads: int = 4
) -> FlowMapPolicy:
    """A `TokenDiT` of the data's length, vocabulary and prior, as a flow map on the simplex.

    Args:
        strings: What it will learn; of `Infilling` the network takes fixed tokens too.
        width: Features of a position.
        depth: Transformer blocks.
        heads: Attention heads; twice their number divides `width`.
    """
    infill = isinstance(strings, Infilling)
    data = strings.strings if infill else strings
    checks.instance("strings", data, Strings, "a data set of strings, or an Infilling of one")
    network = TokenDiT(data.length, data.vocabulary.size, width, depth, heads, infill=infill)
    network.set_prior(data.tokens, data.weights)
    return FlowMapPolicy(
        network, data.event_shape, parametrization="simplex", decode=data.vocabulary
    )
