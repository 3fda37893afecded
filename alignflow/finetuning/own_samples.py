"""Samples of a tuned model that it learns again."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.conditions import cycled
from alignflow.flow_map import FlowMap

__all__ = ["OwnSamples"]

NUMBER = 8192
STEPS = 8


class OwnSamples:
    """Samples of a model, drawn once, as `pretrain` takes data.

    Args:
        model: Draws them.
        conditions: To draw for, (C, ...), evenly; None for none.
        generator: Of the draws. A run that goes on leaves it as they did.
        move: Of states (N, *E) to others, before they are kept.
        folder: Where they are kept, for a run that goes on.
    """

    def __init__(
        self,
        model: FlowMap,
        conditions: Tensor | None,
        generator: torch.Generator,
        move: Callable[[Tensor], Tensor] | None = None,
        folder: Path | None = None,
    ):
        if folder is not None and is_saved(folder):
            tensors, _ = load_folder(folder)
            generator.set_state(tensors.pop("generator"))
            self.rows = TensorDict(tensors, batch_size=NUMBER, device=model.device)
            return
        self.rows = TensorDict(batch_size=NUMBER)
        conditions = cycled(conditions, NUMBER, model.device)
        if conditions is not None:
            self.rows["condition"] = conditions
        with torch.no_grad():
            state = model.sample(NUMBER, STEPS, conditions, generator=generator)
        self.rows["data"] = state if move is None else move(state)
        if folder is not None:
            tensors = {**self.rows.to_dict(), "generator": generator.get_state()}
            save_folder(folder, tensors, {})

    def sample(self, n: int, generator: torch.Generator) -> TensorDictBase:
        """n of them, with their conditions."""
        rows = torch.randint(NUMBER, (n,), generator=generator)
        return cast(TensorDictBase, self.rows[rows])
