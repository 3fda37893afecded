"""The rows of a stored data set with their weights, read a chunk at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alignflow import checks
from alignflow.data.images import pixel_states

__all__ = ["StoredRows", "check_log_weight", "stored_rows"]


@dataclass(frozen=True)
class StoredRows:
    """Rows x_i with log-weights.

    Args:
        data: N of anything that `as_states` turns into states (n, *E).
        log_weight: w, (N,), float64, up to a constant; -inf for a row that never occurs.
        center: c, (D,), the mean of the rows, float64.
        squares: q_i = |x_i - c|^2, (N,), float64.
        chunk: Rows read at once.
        as_states: From some of the data to states, floats.
    """

    data: Tensor
    log_weight: Tensor
    center: Tensor
    squares: Tensor
    chunk: int
    as_states: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def dtype(self) -> torch.dtype:
        """Of the states: float64 where the data are, else float32."""
        return torch.float64 if self.data.dtype == torch.float64 else torch.float32

    @property
    def radius(self) -> Tensor:
        """The largest distance of a row from the center, ()."""
        return self.squares.amax().sqrt()

    def states(self, rows: Tensor | slice) -> Tensor:
        """The rows as states, (*rows.shape, *E)."""
        return self.as_states(self.data[rows])

    def parts(self) -> Iterator[slice]:
        """Which rows each chunk holds."""
        for start in range(0, len(self), self.chunk):
            yield slice(start, min(start + self.chunk, len(self)))

    def chunks(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and these rows flat, (n, D), n at most `chunk`."""
        for part in self.parts():
            yield part, self.states(part).flatten(1).to(dtype)


def stored_rows(data: Tensor, log_weight: Tensor, chunk: int) -> StoredRows:
    """The rows with their center and squares, by two passes over the chunks.

    Args:
        data: (N, *E), floats, or uint8 for pixels, whose states lie in [-1, 1] as in `Images`.
        log_weight: w, (N,).
        chunk: Rows read at once.

    Raises:
        ValueError: If data, weights or chunk are not what they must be.
    """
    if data.ndim < 2 or not (data.is_floating_point() or data.dtype == torch.uint8):
        raise ValueError(
            "data must be floats or uint8 pixels of shape (N, *E), "
            f"got {data.dtype} of shape {tuple(data.shape)}"
        )
    if not data.numel():
        raise ValueError(f"data must have at least one row, got shape {tuple(data.shape)}")
    chunk = checks.count("chunk", chunk)
    check_log_weight(log_weight, len(data))
    blank = torch.zeros((), dtype=torch.float64, device=data.device)
    log_weight = log_weight.to(data.device, torch.float64)
    as_states = pixel_states if data.dtype == torch.uint8 else _as_floats
    bare = StoredRows(data, log_weight, blank, blank, chunk, as_states)
    center = sum((rows.sum(0) for _, rows in bare.chunks(torch.float64)), blank) / len(data)
    squares = [(rows - center).square().sum(1) for _, rows in bare.chunks(torch.float64)]
    if not torch.isfinite(torch.cat(squares)).all():
        raise ValueError("data must be finite, got NaN or infinity")
    return replace(bare, center=center, squares=torch.cat(squares))


def check_log_weight(log_weight: Tensor, n: int) -> None:
    """Refuse what is no log-weight of n rows, or leaves no row."""
    if log_weight.shape != (n,):
        raise ValueError(
            f"log_weight must be log-weights ({n},), one a row, got {checks.shown(log_weight)}"
        )
    if log_weight.isnan().any() or log_weight.isposinf().any():
        raise ValueError("log_weight must be numbers or -inf, got NaN or +inf")
    if log_weight.isneginf().all():
        raise ValueError("log_weight must not be -inf for every row: none is left")


def _as_floats(data: Tensor) -> Tensor:
    return data if data.dtype == torch.float64 else data.float()
