r"""Soft-max of a row in one pass: each lane of a block keeps a running maximum and sum.

.. math:: m' = \max(m, x), \qquad l' = l\, e^{m - m'} + e^{x - m'}

Of the two exponentials one is 1. Lanes meet only at the end of a row, so the loop over it holds no
reduction.

Source: Milakov and Gimelshein (1805.02867).
"""

import torch
from torch import Tensor

from alignflow.kernels.backend import block_size, jit, tl, unit_stride

__all__ = ["merge", "online", "row_options", "triton_normalizers"]


@jit
def online(x, largest, total):
    """Add a block of logits to each lane's maximum and sum, which begin at LOWEST and 0."""
    scale = tl.exp(-tl.abs(x - largest))
    above = x > largest
    total = tl.where(above, total * scale + 1.0, total + scale)
    return tl.where(above, x, largest), total


@jit
def merge(largest, total):
    """The log-normalizer of a row from its lanes."""
    top = tl.max(largest, 0)
    return top + tl.log(tl.sum(total * tl.exp(largest - top), 0))


@jit
def normalizer_kernel(
    z,  # [N, V]
    normalizers,  # [N]
    V,
    stride_z,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    largest = tl.full([BLOCK], -3.4028234663852886e38, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in tl.range(0, V, BLOCK, num_stages=STAGES):
        k = start + lanes
        x = tl.load(z + row * stride_z + k, mask=k < V, other=-float("inf")).to(tl.float32)
        largest, total = online(x, largest, total)
    tl.store(normalizers + row, merge(largest, total))


def row_options(size: int) -> dict[str, int]:
    """How a block runs along a row of so many elements: eight a thread, loads a block ahead."""
    block = block_size(size, 2048)
    return {"BLOCK": block, "STAGES": 2, "num_warps": max(1, block // 256)}


def triton_normalizers(logits: Tensor) -> Tensor:
    """Log-normalizers (N,), float32, of logits (N, V)."""
    rows, size = logits.shape
    logits = unit_stride(logits)
    normalizers = torch.empty(rows, dtype=torch.float32, device=logits.device)
    if rows:
        normalizer_kernel[(rows,)](logits, normalizers, size, logits.stride(0), **row_options(size))
    return normalizers
