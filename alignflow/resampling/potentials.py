r"""Potentials: what particles are weighed by on the way to e^{lambda r}.

.. math:: \log w \mathrel{+}= A_{k+1} - A_k + \log\frac{p}{q}, \qquad A_K = \lambda r(x_1)

A_k is the value at step k ("diff"), its largest so far ("max") or its sum ("add"). The increments
telescope, so the final weight is the same for all, and exact; what differs is who is resampled
early. `Work` is another account, for dynamics that already transport the ramped tilt:
d log w / dt = lambda r(X_{t,1}(x_t)).

Sources: FK steering (2501.06848); FMTT (2511.22688).
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks

__all__ = ["KINDS", "Potential", "Work"]

KINDS = ("diff", "max", "add")


class Potential:
    """A_k of the values met so far.

    Args:
        kind: "diff", "max" or "add".
        ramped: Whether values are multiplied by t first, as a proposal by `Ramped` does.
    """

    carries = ("potential",)

    def __init__(self, kind: str = "diff", ramped: bool = False):
        self.kind = checks.choice("potential", kind, KINDS)
        self.ramped = checks.flag("ramped", ramped)

    def weigh(self, tensordict: TensorDictBase, value: Tensor) -> Tensor:
        """The increment of the log-weight (B,) that a value (B,) on the way brings."""
        if self.ramped:
            value = tensordict["time"] * value
        last = tensordict.get("potential", None)
        if last is None:
            tensordict["potential"] = value
            return value
        now = {"diff": value, "max": torch.maximum(last, value), "add": last + value}[self.kind]
        tensordict["potential"] = now
        return now - last

    def finish(self, tensordict: TensorDictBase, value: Tensor) -> Tensor:
        """The last increment, from lambda r (B,) of the finished samples."""
        last = tensordict.get("potential", None)
        return value if last is None else value - last

    def __repr__(self) -> str:
        return f"{self.kind}, ramped" if self.ramped else self.kind


class Work:
    """The integral of the value over time, by the trapezoidal rule."""

    carries = ("last_value", "last_time")

    def weigh(self, tensordict: TensorDictBase, value: Tensor) -> Tensor:
        """As `Potential.weigh`."""
        time = tensordict["time"]
        last, since = tensordict.get("last_value", None), tensordict.get("last_time", None)
        tensordict["last_value"], tensordict["last_time"] = value, time.clone()
        return torch.zeros_like(value) if last is None else (time - since) * (last + value) / 2

    finish = weigh

    def __repr__(self) -> str:
        return "work"
