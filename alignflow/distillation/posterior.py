r"""`af.learn_posterior`: a stochastic flow map, one forward for a draw of p(x1 | x_t).

.. math:: \bar I_s = (1-s)\, \bar x_0 + s\, x_1, \quad x_t = (1-t)\, z + t\, x_1, \qquad
    X_{0,1}(\epsilon;\, t, x_t) \sim p(x_1 | x_t)

With the context (t, x_t) held fixed, the inner flow from noise to the posterior is a flow like any
other: x1 given the context is data, and the context is a condition. So it is learned by the same
losses, with x1 as its target or by a teacher, which has less variance: GLASS has the velocity of
the inner flow in closed form of the base's denoiser.

Sources: Meta Flow Maps (2601.14430), from data; Diamond Maps (2602.05993), from a teacher.
"""

import copy
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from alignflow import checks
from alignflow.conditions import as_given, drop_rows
from alignflow.flow_map import FlowMap
from alignflow.interpolants import Linear
from alignflow.posteriors import InnerLook
from alignflow.progress import watched
from alignflow.training import TRAINER_OPTIONS, Trainer, check_has_network

from .batches import batches
from .loss import build_loss
from .student import student
from .times import UniformTimes

__all__ = ["GLASSTeacher", "InnerFlow", "learn_posterior"]

TEACHERS = ("glass", "data")
AT_ZERO = 0.1  # share of contexts at time 0, which are the unconditional flow map
BASE_STEPS = 8


class InnerFlow(nn.Module):
    """The inner flow of a stochastic flow map, as what a loss trains: its context is a condition.

    Args:
        policy: The stochastic flow map, with `inner_velocity`.
    """

    def __init__(self, policy: Any):
        super().__init__()
        self.policy = policy

    def average_velocity(self, x: Tensor, s: Tensor, t: Tensor, condition: Any) -> Tensor:
        """v_{s,t}(x), (N, *E), under a context: `time` (N,), `state` (N, *E), perhaps `label`."""
        context = condition["time"], condition["state"]
        return self.policy.inner_velocity(x, s, t, context, condition.get("label", None))

    def denoiser(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The mean of the posterior given an inner state too, (N, *E)."""
        context = condition["time"], condition["state"]
        return self.policy.inner_denoiser(x, t, context, condition.get("label", None))

    @property
    def parametrization(self) -> str:
        """Of the policy's network."""
        return self.policy.parametrization


class GLASSTeacher:
    """The velocity of the exact inner flow, by a base's denoiser.

    Args:
        base: Any flow map.
    """

    def __init__(self, base: FlowMap):
        self.base = base

    @torch.no_grad()
    def velocity(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """(N, *E), of inner states at inner times (N,), under a context as `InnerFlow` takes."""
        look = self._look(x, t, condition)
        label = condition.get("label", None)
        return look.velocity(self.base.velocity(look.state, look.start, label))

    @torch.no_grad()
    def denoiser(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The mean of the posterior given an inner state too, (N, *E)."""
        look = self._look(x, t, condition)
        return self.base.denoiser(look.state, look.start, condition.get("label", None))

    @property
    def parametrization(self) -> str | None:
        """Of the base's network, if it is one."""
        return getattr(self.base, "parametrization", None)

    def _look(self, x: Tensor, t: Tensor, condition: Any) -> InnerLook:
        # on the diagonal it does not matter what the deviation of the data is
        return InnerLook(x, t, t, condition["state"], condition["time"], deviation=1.0)


@checks.refuse_seed
@watched
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
    teacher: str = "glass",
    diagonal_fraction: float = 0.25,
    times: UniformTimes = UniformTimes(boundary=0.25),  # noqa: B008 (it has no state)
    **options,
) -> FlowMap:
    """Make a flow map a stochastic one: a new policy that also has `posterior_flow`.

    Args:
        policy: A `FlowMapPolicy` around a registered network. It is the start, and untouched.
        data: What `pretrain` takes, each row with a context of its own; None takes the policy's
            own samples.
        loss: psd, psd_midpoint, lsd or esd.
        steps: Gradient steps.
        batch_size: Rows of a step.
        generator: Source of all randomness, or a seed.
        folder: Where metrics and checkpoints go; a run found there is continued.
        compile: Whether the network runs under `torch.compile`.
        teacher: Of the inner velocity: "glass", the policy's own denoiser, or "data", the row
            itself. On the ring's posteriors the first has a seventh to a third less error after as
            many steps.
        diagonal_fraction: Share of rows that learn the inner flow; the rest learns its jumps.
        times: Sampler of inner times; a quarter of the jumps are the whole way, as draws are.
        **options: As `pretrain` takes.

    Raises:
        ValueError: If the policy has no network, or one that cannot take a context.
    """
    check_has_network(policy, "learn_posterior")
    checks.choice("teacher", teacher, TEACHERS)
    batch_size, compile = checks.count("batch_size", batch_size), checks.flag("compile", compile)
    generator = checks.as_generator(generator) or torch.Generator().manual_seed(0)
    base = copy.deepcopy(policy).eval().requires_grad_(False)
    dropout = checks.fraction("condition_dropout", options.pop("condition_dropout", 0.0))
    settings = {name: options.pop(name) for name in TRAINER_OPTIONS if name in options}

    def draw(generator: torch.Generator) -> TensorDictBase:
        if data is None:
            rows = TensorDict({"data": base.sample(batch_size, BASE_STEPS, generator=generator)})
        else:
            rows = batches(data, batch_size, base)(generator)
        return in_context(rows, generator, dropout)

    own = cast(Any, policy)
    # not 0, where no look would weigh anything; what was trained already keeps its looks
    deviation = (
        own.data_std if own.has_posterior_flow else max(draw(generator)["data"].std().item(), 1e-2)
    )
    trained = student(own.with_context(deviation))
    by_glass = cast(Any, GLASSTeacher(base)) if teacher == "glass" else None
    inner = InnerFlow(trained)
    options |= {"diagonal_fraction": diagonal_fraction, "times": times}
    objective = build_loss(loss, inner, teacher=by_glass, generator=generator, **options)
    trainer = Trainer(
        objective, trained, draw, steps=steps, generator=generator, folder=folder, **settings
    )
    if compile:
        trained.module.compile()
    return cast(FlowMap, trainer.run())


def in_context(
    rows: TensorDictBase, generator: torch.Generator, dropout: float = 0.0
) -> TensorDict:
    """Rows of data (N, *E), perhaps with labels, each with a context of its own as condition.

    Context times are squares of uniforms, which favors early ones, and 0 for a tenth: there the
    posterior is the data's law, and the context is left empty. Of the labels a share is dropped;
    the contexts stay.
    """
    x1 = rows["data"]
    n = len(x1)
    time = torch.rand(n, generator=generator).square()
    time = time.masked_fill(torch.rand(n, generator=generator) < AT_ZERO, 0.0).to(x1)
    noise = torch.randn(x1.shape, generator=generator, dtype=x1.dtype).to(x1.device)
    state = Linear().state(noise, x1, time)
    context = TensorDict({"time": time, "state": state}, batch_size=n)
    label = as_given(rows.get("condition", None))
    if label is not None:
        context["label"] = drop_rows(label, torch.rand(n, generator=generator) < dropout)
    return TensorDict({"data": x1, "condition": context}, batch_size=n)
