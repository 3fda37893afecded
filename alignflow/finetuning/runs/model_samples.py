"""Samples of a tuned model on which it is distilled again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.conditions import count_rows, cycled, take_rows
from alignflow.draws import integers
from alignflow.flow_map import FlowMap

__all__ = ["ModelSamples"]

NUMBER = 8192
STEPS = 8


class ModelSamples:
    """Samples of a model, drawn once, as `pretrain` takes data.

    Args:
        model: Draws them.
        conditions: To draw for, rows (C, ...), evenly; None for none.
        generator: Of the draws. A resumed run finds it as they left it.
        move: From states (N, *E) to states, applied to the samples before they are saved.
        folder: Where they are saved, for a resumed run.
    """

    def __init__(
        self,
        model: FlowMap,
        conditions: Any,
        generator: torch.Generator,
        move: Callable[[Tensor], Tensor] | None = None,
        folder: Path | None = None,
    ):
        self.conditions = conditions
        if folder is not None and is_saved(folder):
            tensors, _ = load_folder(folder)
            generator.set_state(tensors["generator"])
            self.data = tensors["data"].to(model.device)
            return
        condition = cycled(conditions, NUMBER, model.device)
        with torch.no_grad():
            state = model.sample(NUMBER, STEPS, condition, generator=generator)
        self.data = state if move is None else move(state)
        if folder is not None:
            save_folder(folder, {"data": self.data, "generator": generator.get_state()}, {})

    def sample(self, n: int, generator: torch.Generator) -> TensorDict:
        """n of them, with their conditions."""
        rows = integers(NUMBER, (n,), generator, self.data.device)
        batch = TensorDict({"data": self.data[rows]}, batch_size=n)
        if self.conditions is not None:
            drawn = take_rows(self.conditions, rows % (count_rows(self.conditions) or 1))
            batch["condition"] = drawn
        return batch
