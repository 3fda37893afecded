"""Which implementation of a kernel runs: Triton's, or torch where Triton does not apply.

Triton is no requirement of this package. Without it, `jit` leaves a kernel as it is, and everything
runs in torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from alignflow import checks

try:
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]
except ImportError:
    triton: Any = None
    tl: Any = SimpleNamespace(constexpr=int)

__all__ = [
    "INTERPRETED",
    "block_size",
    "is_small",
    "jit",
    "needs_definition",
    "pieces",
    "runs_triton",
    "tiles",
    "tl",
    "triton",
    "unit_stride",
    "use",
]

MODES = ("auto", "triton", "reference")
# the kernels sum in float32, so float64 stays in torch
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# elements of one [rows, V] buffer: in a CPU's cache, and large enough to fill a GPU
ELEMENTS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
# from so many rows on, a product of matrices is not bound by reading the larger one
ROWS_OF_A_PRODUCT = 128

# Triton in Python, on the CPU: chosen by TRITON_INTERPRET=1 before a kernel is defined
INTERPRETED = triton is not None and triton.knobs.runtime.interpret

_mode = "auto"


@contextmanager
def use(mode: str) -> Iterator[None]:
    """Choose the implementation of all kernels, in all threads, inside a `with` block.

    Args:
        mode: "auto" is Triton on CUDA tensors and torch elsewhere, "reference" torch everywhere.
            "triton" refuses tensors that Triton cannot run on; under TRITON_INTERPRET=1 it runs on
            a CPU. In every mode float64 and forward-mode derivatives are computed in torch.

    Raises:
        ValueError: If the mode is none of these.
    """
    global _mode
    before, _mode = _mode, checks.choice("mode", mode, MODES)
    try:
        yield
    finally:
        _mode = before


def runs_triton(*tensors: Tensor | None) -> bool:
    """Whether the kernel of these tensors is Triton's.

    Raises:
        RuntimeError: In mode "triton", if it cannot be.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    if _mode == "reference" or any(tensor.dtype not in KERNEL_DTYPES for tensor in given):
        return False
    on_cuda = all(tensor.is_cuda for tensor in given)
    if _mode == "auto":
        return triton is not None and on_cuda
    if triton is None:
        raise RuntimeError("mode 'triton' needs the package triton")
    if not on_cuda and not INTERPRETED:
        raise RuntimeError("mode 'triton' needs CUDA tensors, or TRITON_INTERPRET=1 from the start")
    return True


def needs_definition(*constants: Tensor | None) -> bool:
    """Whether only the differentiable definition will do.

    An operator gives a tangent of zero to forward-mode differentiation, and no error, so inside any
    dual level and any transform of `torch.func` the definition runs. So it does where a gradient
    is wanted in an argument that kernels hold constant.

    Args:
        constants: The arguments that the operator has no gradient for.
    """
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return True
    return torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in constants
    )


def jit(function: Any) -> Any:
    """`triton.jit`, or the function itself without Triton."""
    return function if triton is None else triton.jit(function)


def block_size(size: int, most: int) -> int:
    """The least power of 2 that holds so many elements, at least 16 and at most `most`."""
    return max(16, min(most, 1 << (size - 1).bit_length()))


def is_small(tensor: Tensor) -> bool:
    """Whether copies of a tensor cost less than an operator that avoids them."""
    return tensor.numel() <= ELEMENTS_AT_ONCE["cpu"]


def pieces(rows: int, size: int, device: torch.device, least: int = 1) -> list[slice]:
    """Slices of rows of so many elements that torch computes at once, `least` of them or more."""
    elements = ELEMENTS_AT_ONCE.get(device.type, ELEMENTS_AT_ONCE["cuda"])
    at_once = max(least, elements // max(1, size))
    return [slice(start, start + at_once) for start in range(0, rows, at_once)]


def tiles(rows: int, size: int, device: torch.device, least: int) -> Iterator[tuple[slice, slice]]:
    """The same for what needs no whole row: slices of rows, `least` or more, and of columns."""
    for piece in pieces(rows, size, device, least):
        height = piece.stop - piece.start
        for columns in pieces(size, height, device):
            yield piece, columns


def unit_stride(tensor: Tensor) -> Tensor:
    """A matrix whose rows are contiguous, at any distance from each other; copied if need be."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()
