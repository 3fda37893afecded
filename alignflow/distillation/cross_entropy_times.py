r"""Times by the cross-entropy that a trained model has on noised data.

.. math:: \tau(t) = \frac{CE(0) - CE(t)}{CE(0) - CE(1)}, \qquad
    CE(t) = -\mathbb{E} \log D_t(\text{token} \mid x_t)

The closed form of `DecodingTimes` knows a position's own noise alone; a model's cross-entropy also
falls by what context tells. For the exact denoiser of independent tokens it is their entropy given
x_t, whose derivative in the signal-to-noise ratio t^2 / (1-t)^2 is -|token - D|^2 / 2.

Source: Flow Map Language Models (2602.16813); I-MMSE (Guo, Shamai and Verdu 2005).
"""

from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import as_given
from alignflow.data import batches
from alignflow.draws import normal
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import Linear
from alignflow.modes import frozen

from .decoding_times import WarpedTimes

__all__ = ["CrossEntropyTimes", "cross_entropy"]

LATEST = 0.99  # from here on every token is certain


def cross_entropy(
    policy: FlowMap,
    data: Any,
    times: Tensor,
    rows: int = 512,
    generator: torch.Generator | int | None = None,
) -> Tensor:
    """CE(t) at each of times (n,) below 1, in nats a token, (n,), float64.

    The same rows and noise serve all times, so that the curve is smooth.

    Args:
        policy: A flow map of one-hot states, run in evaluation mode.
        data: As `pretrain` takes it.
        times: (n,).
        rows: Of data.
        generator: Source of rows and noise, or its seed; 0 by default.
    """
    check_flow_map("policy", policy)
    generator = checks.as_generator(0 if generator is None else generator)
    assert generator is not None
    batch = batches(data, checks.count("rows", rows), policy)(generator).to(policy.device)
    x1, condition = batch["data"], as_given(batch.get("condition", None))
    x0 = normal(x1.shape, generator, x1.dtype, x1.device)
    found = []
    with torch.no_grad(), frozen(policy):
        for time in times.tolist():
            x = Linear().state(x0, x1, x1.new_full(x1.shape[:1], time))
            soft = policy.denoiser(x, time, condition).double()
            log = soft.clamp(min=torch.finfo(torch.float32).tiny).log()
            found.append(-(x1 * log).sum(-1).mean())
    return torch.stack(found).cpu()


class CrossEntropyTimes(WarpedTimes):
    """Stratified times uniform in a trained model's normalized cross-entropy, some uniform in t.

    Args:
        policy: The model, such as one trained with `DecodingTimes`.
        data: What it is measured on, as `pretrain` takes it.
        uniform_fraction: As in `WarpedTimes`.
        boundary: As in `WarpedTimes`.
        rows: Of data.
        points: Times at which it is measured.
        generator: Source of rows and noise, or its seed; 0 by default.

    Raises:
        ValueError: If the model is no better at the end of the path than at its start.
    """

    def __init__(
        self,
        policy: FlowMap,
        data: Any,
        uniform_fraction: float = 0.1,
        boundary: float = 0.0,
        rows: int = 512,
        points: int = 100,
        generator: torch.Generator | int | None = None,
    ):
        count = checks.count("points", points, least=2)
        grid = torch.linspace(0, LATEST, count, dtype=torch.float64)
        measured = cross_entropy(policy, data, grid, rows, generator)
        fallen = measured[0] - measured
        if not fallen[-1] > 0:
            raise ValueError(
                f"the cross-entropy must fall along the path, and goes from {measured[0]:.3g} to "
                f"{measured[-1]:.3g} nats a token: the model is not trained"
            )
        decoded = (fallen / fallen[-1]).clamp(0, 1).cummax(0).values
        super().__init__(grid, decoded, uniform_fraction, boundary)
