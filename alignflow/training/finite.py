"""The source of non-finite numbers: a weight, or the gradient of a term."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

__all__ = ["gradient_norms", "infinite_parameter", "show_terms"]


def infinite_parameter(module: nn.Module) -> str | None:
    """Name of a parameter with a number that is not finite; None if there is none."""
    found = dict(module.named_parameters())
    # one number for all, where the weights are finite
    if not found or torch.isfinite(get_total_norm(found.values())):
        return None
    return next((name for name, p in found.items() if not torch.isfinite(p).all()), None)


def gradient_norms(
    losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]
) -> dict[str, float]:
    """Norm of each term's gradient alone, of those that have one; the graph stays."""
    norms = {}
    for name, loss in losses.items():
        if loss.requires_grad:
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            norms[name] = get_total_norm([g for g in found if g is not None]).item()
    return norms


def show_terms(values: Mapping[str, float]) -> str:
    """Those that are not finite, or else all, for an error."""
    found = {name: value for name, value in values.items() if not math.isfinite(value)} or values
    return ", ".join(f"{name}={value:g}" for name, value in found.items())
