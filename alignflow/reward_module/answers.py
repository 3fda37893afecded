"""What a reward answered, as numbers (N,)."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["as_rewards"]


def as_rewards(answer: Any, states: Tensor | list[str]) -> Tensor:
    """What a reward answered for states (N, *E), or N texts, as a tensor (N,) beside them.

    Args:
        answer: A tensor or array (N,) or (N, 1), or a list of numbers or of scalar tensors.
        states: Their number, device and precision are wanted; the precision at least float32.

    Raises:
        TypeError: If the answer does not consist of real numbers.
        ValueError: If it is of another shape.
    """
    n = len(states)
    if isinstance(answer, list | tuple) and answer and all(isinstance(a, Tensor) for a in answer):
        answer = torch.stack(list(answer))
    try:
        rewards = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"numbers, got {type(answer).__name__}") from error
    if rewards.layout != torch.strided or rewards.device.type == "meta":
        kind = "meta" if rewards.device.type == "meta" else f"{rewards.layout}"
        raise TypeError(f"dense numbers, got a tensor of kind {kind}")
    if rewards.is_complex():
        raise TypeError(f"real numbers, got {rewards.dtype}")
    if rewards.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"one number for each of the {n} samples, shape ({n},) or ({n}, 1), "
            f"got shape {tuple(rewards.shape)}"
        )
    beside = states if isinstance(states, Tensor) else torch.empty(0)
    dtype = torch.promote_types(beside.dtype, torch.float32)
    # a copy, for the reward may use the memory of its answer again
    return rewards.reshape(n).to(beside.device, dtype, copy=True)
