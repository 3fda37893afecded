"""What a steerer drew, as a TensorDict that a notebook shows by its reward and its cost."""

from dataclasses import fields
from html import escape
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from alignflow.cost import Cost
from alignflow.metrics import mean
from alignflow.resampling import Resampler
from alignflow.tables import html_table

__all__ = ["Samples", "collect"]


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


def collect(
    tensordict: TensorDictBase,
    n: int,
    resampler: Resampler,
    cost: Cost,
    generator: torch.Generator | None,
) -> Samples:
    """Finished particles of n systems as `Steerer.sample` returns them.

    Args:
        tensordict: The flat batch, with `state`, `reward` and `log_weight`.
        n: Number of systems.
        resampler: Chooses the sample of each system.
        cost: Of all systems.
        generator: Source of that choice.
    """
    keys = ("state", "reward", "log_weight")
    parts: dict[str, Any] = {key: tensordict[key].unflatten(0, (n, -1)) for key in keys}
    chosen = resampler.choose(parts["reward"], parts["log_weight"], generator)
    systems = torch.arange(n, device=chosen.device)
    out = Samples({key: parts[key][systems, chosen] for key in ("state", "reward")})
    out["particles"] = TensorDict(parts, batch_size=[n, len(tensordict) // n])
    if (path := tensordict.get("trajectory", None)) is not None:
        out["trajectory"] = path.unflatten(0, (n, -1))[systems, chosen]
    for name, count in cost.items():
        # an adaptive solver may take other steps for each micro-batch: then a mean
        out[name] = torch.tensor(count / n if count % n else count // n)
    return out
