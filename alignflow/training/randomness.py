"""The random state of a training: its generator and, for dropout, torch's global one."""

import hashlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor

__all__ = ["GlobalRandomness", "Randomness", "global_state", "set_global_state"]

RandomState = tuple[Tensor, dict[str, Tensor]]


class Randomness:
    """The random state of a training: its generator, and torch's global one.

    Args:
        generator: Of the run.
        device: Where the training runs.
    """

    def __init__(self, generator: torch.Generator, device: torch.device):
        self.generator, self.device = generator, device

    @property
    def state(self) -> RandomState:
        """The current state."""
        return self.generator.get_state(), global_state(self.device)

    @state.setter
    def state(self, state: RandomState) -> None:
        self.generator.set_state(state[0])
        set_global_state(state[1], self.device)


class GlobalRandomness(AbstractContextManager):
    """A stream of torch's global randomness for one training, in use inside the context only.

    Args:
        generator: By whose state it is seeded; that generator itself is not advanced.
        device: Where the training runs, whose global randomness counts beside the CPU's.
    """

    def __init__(self, generator: torch.Generator, device: torch.device):
        self.device = device
        seed = _seed(generator)
        self.waiting = {"cpu": torch.Generator().manual_seed(seed).get_state()}
        if device.type == "cuda":
            self.waiting["cuda"] = torch.Generator(device).manual_seed(seed).get_state()

    def __enter__(self) -> "GlobalRandomness":
        self._swap()
        return self

    def __exit__(self, *error) -> None:
        self._swap()

    def _swap(self) -> None:
        current = global_state(self.device)
        set_global_state(self.waiting, self.device)
        self.waiting = current


def global_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's global randomness on the CPU, and on a CUDA device."""
    state = {"cpu": torch.default_generator.get_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_global_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Set what `global_state` gave; the rest stays as it is."""
    if "cpu" in state:
        torch.default_generator.set_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _seed(generator: torch.Generator) -> int:
    # a digest, because the same seed would draw the same numbers as the generator does
    digest = hashlib.sha256(generator.get_state().numpy().tobytes()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
