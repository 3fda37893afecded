r"""`af.learn_posterior`: a stochastic flow map, one forward for a draw of p(x1 | x_t).

.. math:: \bar I_s = (1-s)\, \bar x_0 + s\, x_1, \quad x_t = (1-t)\, z + t\, x_1, \qquad
    X_{0,1}(\epsilon;\, t, x_t) \sim p(x_1 | x_t)

With the context (t, x_t) held fixed, the inner flow from noise to the posterior is a flow like any
other: x1 given the context is data, and the context is a condition. So it is learned by the same
losses, with x1 as its target or by a teacher, which has less variance: GLASS has the velocity of
the inner flow in closed form of the base's denoiser. Draws in one forward may also be learned by
themselves, by a proper score of them against x1.

Sources: Meta Flow Maps (2601.14430), from data; Diamond Maps (2602.05993), from a teacher.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from alignflow import checks
from alignflow.data import batches
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.trainable import TrainablePolicy, check_trainable
from alignflow.training import Trainer, TrainingOptions, Trains

from .energy_score import EnergyScore, ScoredDraws
from .inner_flow import GLASSTeacher, InnerFlow, in_context
from .loss import build_loss
from .student import student
from .times import UniformTimes

__all__ = ["learn_posterior"]

TEACHERS = ("glass", "data")
BASE_STEPS = 8


@Trains
@checks.refuse_seed
def learn_posterior(
    policy: FlowMap,
    data: Any = None,
    loss: str = "psd",
    steps: int = 5000,
    batch_size: int = 1024,
    generator: torch.Generator | int | None = None,
    folder: str | Path | None = None,
    compile: bool = False,
    *,
    teacher: str | FlowMap = "glass",
    energy_score: EnergyScore | None = None,
    diagonal_fraction: float = 0.25,
    times: UniformTimes = UniformTimes(boundary=0.25),  # noqa: B008 (it has no state)
    **options,
) -> Trainer[TrainablePolicy]:
    """Make a flow map a stochastic one: a new policy that also has `posterior_flow`.

    Args:
        policy: A `FlowMapPolicy` around a registered network. It is the start, and untouched.
        data: What `pretrain` takes; None takes samples of the policy.
        loss: psd, psd_midpoint, lsd or esd.
        steps: Gradient steps.
        batch_size: Rows of a step.
        generator: Source of all randomness, or a seed.
        folder: Where metrics and checkpoints go; a run found there is continued.
        compile: Whether the network runs under `torch.compile`.
        teacher: Of the inner velocity: "glass", by the policy's denoiser, or by that of another
            flow map of the same data, given here; or "data", the row itself, with more variance.
        energy_score: Of the draws of some rows against their data, which must then be data: what
            makes draws vary as they should where jumps are not learned to the end. None learns the
            flow and its jumps alone.
        diagonal_fraction: Fraction of rows that learn the inner flow; the rest learns its jumps. Of
            those that are not scored, where there is an energy score.
        times: Sampler of inner times; a quarter of the jumps are the whole way, as draws are.
        **options: As `pretrain` takes.

    Raises:
        ValueError: If the policy has no network, or one that cannot take a context, or states have
            no patches of the energy score.
    """
    start = check_trainable(policy, "learn_posterior")
    if isinstance(teacher, str):
        checks.choice("teacher", teacher, TEACHERS)
    else:
        check_flow_map("teacher", teacher)
    if energy_score is not None:
        wanted = "an EnergyScore, or None"
        checks.instance("energy_score", energy_score, EnergyScore, wanted)
    batch_size = checks.count("batch_size", batch_size)
    generator = checks.as_generator(generator) or torch.Generator().manual_seed(0)
    base = copy.deepcopy(policy).eval().requires_grad_(False)
    dropout = checks.fraction("condition_dropout", options.pop("condition_dropout", 0.0))
    settings, options = TrainingOptions.split(options | {"compile": compile})
    draw = partial(_rows_in_context, data, batch_size, base, dropout)
    trained = student(start.with_context(_data_std(start, draw, generator)))
    given = base if teacher == "glass" else teacher
    objective = build_loss(
        loss,
        InnerFlow(trained),
        teacher=None if isinstance(given, str) else GLASSTeacher(given),
        diagonal_fraction=diagonal_fraction,
        times=times,
        generator=generator,
        **options,
    )
    if energy_score is not None:
        objective = ScoredDraws(trained, energy_score, objective, generator)
    return Trainer(
        objective,
        trained,
        draw,
        steps=steps,
        generator=generator,
        folder=folder,
        options=settings,
        held=() if isinstance(teacher, str) else (teacher,),
    )


def _rows_in_context(
    data: Any, n: int, base: FlowMap, dropout: float, generator: torch.Generator
) -> TensorDictBase:
    """n rows of the data, or samples of the base where it is None, each with a context."""
    if data is None:
        rows = TensorDict({"data": base.sample(n, BASE_STEPS, generator=generator)})
    else:
        rows = batches(data, n, base)(generator)
    return in_context(rows, base, generator, dropout)


def _data_std(
    start: TrainablePolicy,
    draw: Callable[[torch.Generator], TensorDictBase],
    generator: torch.Generator,
) -> float:
    """The policy's if it is a stochastic map already, which was trained with it; else a batch's."""
    if start.has_posterior_flow:
        return start.data_std
    # at 0 no look would weigh anything
    return max(draw(generator)["data"].std().item(), 1e-2)
