"""Kernels: what runs at the memory roofline where plain torch does not, with torch beside it.

Each file holds a formula, the bound on the bytes that it must move, its definition in torch, the
Triton kernels and the function that chooses between them.
"""

from .backend import use
from .linear_soft_cross_entropy import linear_soft_cross_entropy
from .simplex_step import simplex_step
from .soft_cross_entropy import soft_cross_entropy
from .soft_embedding import soft_embedding

__all__ = [
    "linear_soft_cross_entropy",
    "simplex_step",
    "soft_cross_entropy",
    "soft_embedding",
    "use",
]
