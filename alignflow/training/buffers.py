"""The buffers of a module as they were before a step, so that a step that fails can be undone."""

import torch
from torch import Tensor, nn

__all__ = ["BufferBackup"]

SMALL = 4096


class BufferBackup:
    """Which tensors a module's buffers were, with copies of those of at most SMALL numbers.

    A module that holds more, as a pool of candidates does, must rewrite it as a whole when its
    small buffers say again that this is due.

    Args:
        module: Whose buffers.
    """

    def __init__(self, module: nn.Module):
        self.places = [(owner, name) for owner in module.modules() for name in owner._buffers]
        self.kept: list[tuple[Tensor | None, Tensor | None]] = []

    def take(self) -> None:
        """Remember the buffers as they are."""
        held = (owner._buffers[name] for owner, name in self.places)
        self.kept = [(buffer, _copied(buffer)) for buffer in held]

    @torch.no_grad()
    def restore(self) -> None:
        """Make the buffers what they were when they were last taken."""
        for (owner, name), (buffer, copied) in zip(self.places, self.kept, strict=True):
            owner._buffers[name] = buffer
            if buffer is not None and copied is not None:
                buffer.copy_(copied)


def _copied(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None or buffer.numel() > SMALL else buffer.detach().clone()
