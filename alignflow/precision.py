"""In which precision networks run."""

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from alignflow import checks

__all__ = [
    "PRECISIONS",
    "accumulation_dtype",
    "autocast",
    "bf16_is_slow",
    "check_precision",
    "fastest",
    "full_precision",
]

PRECISIONS = ("fp32", "bf16")


def autocast(precision: str, device: torch.device | str = "cpu") -> AbstractContextManager:
    """A context in which networks run in bf16, or as they are.

    Raises:
        ValueError: If the precision is none of PRECISIONS.
    """
    check_precision(precision)
    if precision == "fp32":
        return nullcontext()
    if bf16_is_slow(device):
        warnings.warn(
            "this processor has no arithmetic in bf16 and emulates it, several times slower than "
            "fp32: set precision=fp32",
            stacklevel=2,
        )
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def full_precision(device: torch.device | str = "cpu") -> AbstractContextManager:
    """A context in which networks run as they are, inside of an `autocast` too."""
    return torch.autocast(torch.device(device).type, enabled=False)


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which numbers are summed and normalized: their own, but float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def check_precision(precision: str) -> None:
    """Refuse a precision that there is not."""
    checks.choice("precision", precision, PRECISIONS)


def fastest(device: torch.device | str = "cpu") -> str:
    """The precision in which a device is fastest."""
    return "fp32" if bf16_is_slow(device) else "bf16"


def bf16_is_slow(device: torch.device | str = "cpu") -> bool:
    """Whether a device computes bf16 by conversions to fp32 and back."""
    on_cpu = torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available()
    return on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
