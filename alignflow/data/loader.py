"""Data larger than memory: rows of a map-style data set read by worker processes, or of a file."""

import random
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from alignflow import checks
from alignflow.draws import integers

from .items import as_batch, stacked

__all__ = ["Loader", "memory_mapped"]

# torch's own choice, which torchrl changes for the whole process; spawned workers import all anew
START = "fork" if sys.platform == "linux" else None


class Loader:
    """A map-style data set of which only the rows of a batch are read, by worker processes.

    The generator of the training draws the rows of a batch, and a seed for each of them that its
    random transforms run under. So batches are the same for any number of workers, and a resumed
    training continues with the same ones. Reading does not overlap with the training step.

    Args:
        dataset: With a length, and a state or a pair (state, label) for each index.
        workers: Processes that read, each a part of every batch.

    Raises:
        ValueError: If it is no such data set, or empty.
    """

    def __init__(self, dataset: Any, workers: int = 4):
        wanted = "a map-style data set, such as a torch.utils.data.Dataset with a length"
        checks.offers("dataset", dataset, ("__getitem__", "__len__"), wanted)
        if not len(dataset):
            raise ValueError(f"dataset must have a row and is empty, got {checks.shown(dataset)}")
        self.dataset, self.workers = dataset, checks.count("workers", workers)
        self._asked: list[list[tuple[int, int]]] = []
        self._loader = DataLoader(
            _Seeded(dataset),
            batch_sampler=self._asked,
            collate_fn=_columns,
            num_workers=self.workers,
            persistent_workers=True,
            worker_init_fn=_ignore_interrupts,
            multiprocessing_context=START,
            generator=torch.Generator(),  # or it would draw from torch's global randomness
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> TensorDictBase:
        """n rows drawn with replacement: `data` (n, *E), and `condition` if they have labels."""
        n, generator = checks.count("n", n), checks.as_generator(generator)
        rows = integers(len(self), (n,), generator).tolist()
        seeds = integers(2**32, (n,), generator).tolist()
        asked, part = list(zip(rows, seeds, strict=True)), -(-n // self.workers)
        self._asked[:] = [asked[start : start + part] for start in range(0, n, part)]
        states, labels = zip(*self._loader, strict=True)
        if labels[0] is None:
            return as_batch(torch.cat(states))
        return as_batch((torch.cat(states), _joined(labels)))


def memory_mapped(path: str | Path) -> Tensor:
    """The array of a .npy file as a tensor, whose rows are read from the disk when used.

    The file may be larger than memory. It is mapped to be read only: nothing may write into the
    tensor.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no .npy file of numbers.
    """
    array = np.lib.format.open_memmap(path, mode="r")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold numbers, got {array.dtype}")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that it is read-only
        return torch.from_numpy(array)


class _Seeded(Dataset):
    """A data set whose items are asked for by (index, seed)."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __getitem__(self, asked: tuple[int, int]) -> Any:
        row, seed = asked
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        return self.dataset[row]


def _columns(items: Sequence[Any]) -> tuple[Tensor, Any]:
    """States (n, *E) and labels, or None; tensors among the labels as one."""
    columns = stacked(items)
    if isinstance(columns, Tensor):
        return columns, None
    states, labels = columns
    alike = all(isinstance(label, Tensor) for label in labels)
    return states, torch.stack(labels) if alike else labels


def _joined(labels: Sequence[Any]) -> Any:
    if isinstance(labels[0], Tensor):
        return torch.cat(list(labels))
    return [label for part in labels for label in part]


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the workers too, while the training ends its step before it stops."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
