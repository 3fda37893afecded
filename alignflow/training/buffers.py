"""A backup of a module's buffers, by which a failed step is undone."""

import torch
from torch import Tensor, nn

__all__ = ["BufferBackup"]

SMALL = 4096


class BufferBackup:
    """References to a module's buffers, and copies of those of at most SMALL numbers.

    A module with larger ones, such as a pool of candidates, must rewrite them as a whole whenever
    its small buffers say that this is due.

    Args:
        module: Whose buffers.
    """

    def __init__(self, module: nn.Module):
        self.places = [(owner, name) for owner in module.modules() for name in owner._buffers]
        self.saved: list[tuple[Tensor | None, Tensor | None]] = []

    def save(self) -> None:
        """Remember the buffers as they are."""
        buffers = (owner._buffers[name] for owner, name in self.places)
        self.saved = [(buffer, _copied(buffer)) for buffer in buffers]

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the buffers that were last saved."""
        for (owner, name), (buffer, copied) in zip(self.places, self.saved, strict=True):
            owner._buffers[name] = buffer
            if buffer is not None and copied is not None:
                buffer.copy_(copied)


def _copied(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None or buffer.numel() > SMALL else buffer.detach().clone()
