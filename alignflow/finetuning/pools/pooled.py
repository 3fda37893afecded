"""What tuners that learn from a pool of candidates share: the pool and its options."""

from dataclasses import dataclass
from functools import partial

from tensordict.utils import NestedKey
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.finetuning.problem import Problem
from alignflow.finetuning.tuner import Method, Tuner
from alignflow.settings import option

from .pool import Pool
from .strength_pool import StrengthPool

__all__ = ["PooledMethod", "PooledTuner"]


@dataclass(frozen=True, kw_only=True)
class PooledMethod(Method):
    """Settings of a tuner with a pool."""

    takes_stages = True

    pool: int = option(
        8192,
        "candidates at a time; few effective ones are warned of",
        partial(checks.count, least=2),
    )
    refresh_every: int = option(250, "batches between pools", checks.count)
    candidate_steps: int = option(8, "jumps of the base that draw a candidate", checks.count)
    diagonal_fraction: float = option(
        0.75, "fraction of rows that train the velocity, the others the jumps", checks.fraction
    )


class PooledTuner(Tuner):
    """A tuner whose rows are candidates of the base, or of data in its place.

    Args:
        problem: What is tuned. Weights are relative to the candidates of one condition.
        method: How.
        diagonal_fraction: As of `Tuner`.
        data: What to draw candidates from in place of the base.
    """

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        data: NestedKey = "data"
        condition: NestedKey = "condition"

    def __init__(
        self, problem: Problem, method: PooledMethod, *, diagonal_fraction: float, data=None
    ):
        super().__init__(problem, method, diagonal_fraction=diagonal_fraction)
        strengths = problem.strengths
        build = Pool if strengths is None else partial(StrengthPool, strengths=strengths)
        self.pool = build(
            self.base,
            self.tilt,
            method.pool,
            method.refresh_every,
            method.candidate_steps,
            self.generator,
            data,
            self.condition,
        )

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, and the effective fraction of the pool."""
        return ["loss_diagonal", "loss_map", "ess_fraction"]
