"""What a steerer drew, as a TensorDict that a notebook shows by its reward and its cost."""

from dataclasses import fields
from html import escape
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow.cost import Cost
from alignflow.metrics import mean
from alignflow.resampling import Resampler
from alignflow.tables import html_table

__all__ = ["Samples", "choose_rows", "collect"]


class Samples(TensorDict):
    """A TensorDict as `Steerer.sample` returns it."""

    def _repr_html_(self) -> str:
        costs = [field.name for field in fields(Cost)]
        if not {"reward", *costs} <= set(self.keys()):
            # a part of it, which has no such table
            return f"<pre>{escape(repr(self))}</pre>"
        reward = self["reward"]
        rows = [
            ("mean reward", str(mean(reward))),
            *((f"{cost} a sample", f"{self[cost].item():g}") for cost in costs),
        ]
        return html_table(f"{len(reward)} samples", ("", "value"), rows)


def choose_rows(
    tensordict: TensorDictBase, n: int, resampler: Resampler, generator: torch.Generator | None
) -> Tensor:
    """Row (n,) of the sample of each of n systems, among finished particles, (n M,).

    Args:
        tensordict: The flat batch, with `reward` and `log_weight`.
        n: Number of systems.
        resampler: Chooses the sample of each system.
        generator: Source of that choice.
    """
    reward, weight = (tensordict[key].unflatten(0, (n, -1)) for key in ("reward", "log_weight"))
    chosen = resampler.choose(reward, weight, generator)
    return torch.arange(n, device=chosen.device) * (len(tensordict) // n) + chosen


def collect(tensordict: TensorDictBase, rows: Tensor, cost: Cost) -> Samples:
    """Finished particles of n systems as `Steerer.sample` returns them.

    Args:
        tensordict: The flat batch, with `state`, `reward` and `log_weight`.
        rows: Of the samples, (n,).
        cost: Of all systems.
    """
    n = len(rows)
    out = Samples({key: tensordict[key][rows] for key in ("state", "reward")})
    keys = ("state", "reward", "log_weight")
    parts: dict[str, Any] = {key: tensordict[key].unflatten(0, (n, -1)) for key in keys}
    out["particles"] = TensorDict(parts, batch_size=[n, len(tensordict) // n])
    if (path := tensordict.get("trajectory", None)) is not None:
        out["trajectory"] = path[rows]
    for name, count in cost.items():
        # an adaptive solver may take other steps for each micro-batch: then a mean
        out[name] = torch.tensor(count / n if count % n else count // n)
    return out
