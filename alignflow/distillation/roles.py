"""What a loss of a flow map asks of the map in training, and of a teacher."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from alignflow.predictions import Prediction

__all__ = ["Student", "Teacher"]


@runtime_checkable
class Teacher(Protocol):
    """What the diagonal is regressed on, and what LSD and ESD follow; any flow map is one."""

    @property
    def prediction(self) -> Prediction:
        """It says whether the velocity is defined at time 1."""
        ...

    def velocity(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """b_t(x), (N, *E)."""
        ...

    def denoiser(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """D_t(x), (N, *E)."""
        ...


class Student(Protocol):
    """What a loss asks of the map in training; every `TrainablePolicy` is one.

    What else is asked is the affair of its `prediction`, as `average_velocity` is.

    Attributes:
        null_condition: Stands for a condition that was dropped.
    """

    null_condition: Any

    @property
    def prediction(self) -> Prediction:
        """What it predicts, and how that is regressed."""
        ...

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """States at time 0, (n, *E)."""
        ...

    def denoiser(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """D_t(x), (N, *E)."""
        ...
