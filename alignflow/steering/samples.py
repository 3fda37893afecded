"""What a steerer drew, as a TensorDict that a notebook shows by its reward and its cost."""

from dataclasses import fields
from html import escape

from tensordict import TensorDict

from alignflow.cost import Cost
from alignflow.metrics import mean
from alignflow.tables import html_table

__all__ = ["Samples"]


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
