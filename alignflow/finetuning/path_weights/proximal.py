r"""Proximal stages: flow matching on the model's samples, weighted by path against the base.

.. math:: \min_\theta \; \mathbb{E}_{\text{old}} \big[\, w^\kappa\,
    \lvert b_\theta(I_t) - (x_1 - x_0) \rvert^2 \big], \qquad
    w = e^{\lambda r(x_1) - \ell}, \quad \ell = \log \frac{p_{\text{old}}}{p}\text{ of the path}

Each pool is a stage: paths of the model as it is are drawn, and of each its end, its reward and its
log-ratio to the base's are stored. With kappa 1 the ends have the tilt of the base's under their
weights, whatever drew them, so that a stage corrects the error of those before. Kappa below 1 is
the proximal point between the model and the tilt, and as the model nears the tilt its trust region
lets kappa grow to 1. The effective fraction of w itself says whether the tilt was reached, also
where no closed form is known.

As in `weighted`, rows are drawn by their weights.

Source: Proximal Diffusion Neural Sampler (2510.03824).
"""

from dataclasses import dataclass
from functools import partial

from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.finetuning.problem import Problem
from alignflow.finetuning.tuner import Method, Tuner
from alignflow.flow_map import FlowMap
from alignflow.settings import option

from .path_pool import PathPool, averaged_option
from .paths import MemorylessPaths, as_paths
from .trust_region import ESSRegion, TrustRegion, as_trust_region

__all__ = ["Proximal"]


@dataclass(frozen=True, kw_only=True)
class Proximal(Method):
    """Flow matching on the model's samples, weighted by path: each stage corrects those before."""

    pool: int = option(8192, "paths of a stage", partial(checks.count, least=2))
    refresh_every: int = option(250, "batches between stages", checks.count)
    diagonal_fraction: float = option(
        0.75, "fraction of rows that train the velocity, the others the jumps", checks.fraction
    )
    paths: MemorylessPaths = option(MemorylessPaths(), "how they are drawn", as_paths)
    trust_region: TrustRegion | None = option(
        ESSRegion(0.3),
        "how far a stage goes: ESSRegion(), KLRegion(), or None, to the tilt",
        as_trust_region,
    )
    averaged: bool = averaged_option()

    def bind(self, problem: Problem) -> "ProximalTuner":
        return ProximalTuner(problem, self)


class ProximalTuner(Tuner):
    """The loss of `Proximal`."""

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        data: NestedKey = "data"
        condition: NestedKey = "condition"

    def __init__(self, problem: Problem, method: Proximal):
        super().__init__(problem, method, diagonal_fraction=method.diagonal_fraction)
        self.averaged = method.averaged
        self.pool = PathPool.of(self, method, self.policy)

    def follow(self, average: FlowMap) -> None:
        if self.averaged:
            self.pool.follow(average)

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the effective fraction of w, and kappa."""
        return ["loss_diagonal", "loss_map", "ess_fraction", "exponent"]

    def sample_batch(self, n: int) -> TensorDict:
        """n ends, drawn by their weights: `data` (n, *E) and perhaps `condition` (n, ...)."""
        return self.renamed(self.pool.resample(n))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of ends: `data` (N, *E) and perhaps `condition` (N, ...)."""
        losses = self.distil(self.read(tensordict, "data"), self.read(tensordict, "condition"))
        pool = self.pool
        return losses.update(
            {"ess_fraction": pool.ess_fraction.clone(), "exponent": pool.exponent.clone()}
        )
