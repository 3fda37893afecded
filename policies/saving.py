"""What a saved policy consists of: a network, a decoder, and the facts that describe both.

The network's tensors have the names of its state, the decoder's the same after a prefix. A network
or a decoder whose class is not registered is saved without a name, and is given again when the
folder is loaded.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import registered_name, save_folder
from alignflow.decoding import Decoder, decoder_name

__all__ = ["DECODER", "DTYPES", "FORMAT", "save"]

FORMAT = 1
DTYPES = ("float16", "bfloat16", "float32", "float64")
DECODER = "decoder:"  # before the names of the decoder's tensors


def save(
    folder: str | Path,
    network: nn.Module,
    decoder: Decoder,
    described: dict[str, Any],
    dtype: torch.dtype | None = None,
    *,
    allow_nonfinite: bool = False,
) -> Path:
    """Write a policy as a folder.

    Args:
        folder: Where.
        network: Of the policy.
        decoder: Likewise.
        described: What else is said of it, as JSON can hold it.
        dtype: Of the stored numbers; as they are if None.
        allow_nonfinite: Whether weights that are NaN or infinite are meant to be so.

    Raises:
        CheckpointError: As `alignflow.checkpoint.save_folder`.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(
            f"dtype must be a floating-point one, like torch.float16, got {checks.shown(dtype)}"
        )
    registered = registered_name(network)
    named = decoder_name(decoder)
    state, of_decoder = network.state_dict(), decoder.state_dict()
    facts = {
        "format": FORMAT,
        "network": registered,
        "arguments": network.arguments if registered is not None else {},
        "dtype": _dtype(state),
        "decode": {
            "name": named,
            "arguments": dict(decoder.arguments) if named is not None else {},
            "dtype": _dtype(of_decoder),
        },
    }
    tensors = state | {f"{DECODER}{name}": value for name, value in of_decoder.items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    return save_folder(folder, tensors, facts | described, allow_nonfinite=allow_nonfinite)


def _dtype(state: dict[str, Tensor]) -> str | None:
    """The floating-point dtype that all tensors have; None if they differ."""
    found = {str(v.dtype).removeprefix("torch.") for v in state.values() if v.is_floating_point()}
    return next((name for name in DTYPES if found == {name}), None)
