"""A fresh policy that writes the strings of a data set."""

from alignflow import checks
from alignflow.data import Infilling, Strings

from .networks import TokenDiT, TokenMLP
from .policy import FlowMapPolicy

__all__ = ["text_policy"]

NETWORKS = {"token_dit": TokenDiT, "token_mlp": TokenMLP}


def text_policy(
    strings: Strings | Infilling, network: str = "token_dit", **options
) -> FlowMapPolicy:
    """A network of the data's length, vocabulary and prior, as a flow map on the simplex.

    Args:
        strings: What it will learn; of `Infilling` the network takes fixed tokens too.
        network: token_dit, or token_mlp, which suits short strings of a finite list.
        **options: Of the network: width, depth, heads.

    Raises:
        ValueError: If the data are no strings, or there is no such network.
    """
    infill = isinstance(strings, Infilling)
    data = strings.strings if infill else strings
    checks.instance("strings", data, Strings, "a data set of strings, or an Infilling of one")
    build = NETWORKS[checks.choice("network", network, NETWORKS)]
    module = build(data.length, data.vocabulary.size, infill=infill, **options)
    module.set_prior(data.tokens, data.weights)
    return FlowMapPolicy(
        module, data.event_shape, parametrization="simplex", decode=data.vocabulary
    )
