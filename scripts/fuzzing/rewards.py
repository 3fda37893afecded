"""Misbehaving rewards through everything that calls one: the outcome is right, or clearly refused.

Each reward is a well-behaved one, `points[:, 0]`, with one fault. Where it is accepted, the outcome
is that of the well-behaved twin; the caller's tensors and torch's state are as they were.
"""

import contextlib
import io
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import alignflow as af
from alignflow import policies

from .apart import Answer, apart
from .outcome import ACCEPTED, CLEAR, ENDLESS, UNCLEAR, Outcome

__all__ = ["FAULTS", "USES", "cases", "try_case"]

SECONDS = 30.0
N = 8


def good(points):
    """What each faulty reward should have been."""
    return points[:, 0]


@dataclass(frozen=True)
class Fault:
    """A reward with a fault.

    Args:
        function: The reward; a call that makes it anew, where it keeps a state.
        right: Whether what it answers is right all the same, so that it must be accepted.
        gradient: Whether it claims a gradient.
        told: Words of which a refusal has one, besides the reward's name.
    """

    function: Callable[[], Callable[..., Any]]
    right: bool = False
    gradient: bool = False
    told: tuple[str, ...] = ()


def _raises(error: BaseException | type[BaseException]):
    def bad(points):
        raise error

    return bad


def _answers(change: Callable[[Any], Any]):
    """The good answer, changed."""
    return lambda: lambda points: change(points[:, 0])


def _and(deed: Callable[[], Any]):
    """Something done beside the good answer."""

    def make():
        def bad(points):
            deed()
            return points[:, 0].clone()

        return bad

    return make


def _writes(deed: Callable[[Any], Any]):
    """The good answer, and then its input is written to."""

    def make():
        def bad(points):
            answer = points[:, 0].clone()
            deed(points)
            return answer

        return bad

    return make


def _counting():
    calls = [0]

    def bad(points):
        calls[0] += 1
        return points[:, 0] + calls[0]

    return bad


def _fails_later():
    calls = [0]

    def bad(points):
        calls[0] += 1
        if calls[0] > 2:
            raise ConnectionError("the service is away")
        return points[:, 0]

    return bad


def _remembers():
    before: list[Any] = []

    def bad(points):
        before.append(points)
        return points[:, 0].clone()

    return bad


def _module_in_training():
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, points):
            return self.drop(points)[:, 0]

    return Noisy().train()


def _sparse(answer):
    return answer.to_sparse()


NAN, INF = float("nan"), float("inf")
FINITE = ("finite", "nan", "inf")
SHAPE = ("shape", "one number")
NUMBERS = ("numbers", "real")
GRAPH = ("graph", "gradient", "differentiable")

FAULTS: dict[str, Fault] = {
    # raises
    "raises ValueError": Fault(lambda: _raises(ValueError("broken")), told=("broken",)),
    "raises RuntimeError": Fault(lambda: _raises(RuntimeError("broken")), told=("broken",)),
    "raises StopIteration": Fault(lambda: _raises(StopIteration("broken")), told=("broken",)),
    "raises AssertionError": Fault(lambda: _raises(AssertionError), told=("AssertionError",)),
    "raises MemoryError": Fault(lambda: _raises(MemoryError("broken")), told=("broken",)),
    "raises KeyboardInterrupt": Fault(lambda: _raises(KeyboardInterrupt), told=("Interrupt",)),
    "raises SystemExit": Fault(
        lambda: _raises(SystemExit("broken")), told=("broken", "SystemExit")
    ),
    "raises an error without a text": Fault(lambda: _raises(Exception), told=("Exception",)),
    "fails from the third call on": Fault(_fails_later, told=("away",)),
    "takes no argument": Fault(lambda: lambda: torch.zeros(N), told=("argument",)),
    "wants two arguments": Fault(lambda: lambda a, b: a[:, 0], told=("argument",)),
    "fails on one sample": Fault(
        lambda: lambda x: good(x) if len(x) == 1 else _raises(ValueError("broken"))(x),
        told=("broken",),
    ),
    # not finite
    "NaN": Fault(_answers(lambda r: r * NAN), told=FINITE),
    "NaN for one sample": Fault(
        _answers(lambda r: torch.where(torch.arange(len(r)) == 0, NAN, r)), told=FINITE
    ),
    "infinite": Fault(_answers(lambda r: r + INF), told=FINITE),
    "minus infinity": Fault(_answers(lambda r: r - INF), told=FINITE),
    "overflow of float16": Fault(_answers(lambda r: (r.abs() + 1e6).half()), told=FINITE),
    "None among floats": Fault(
        _answers(lambda r: [None, *r.tolist()[1:]]), told=(*NUMBERS, *FINITE)
    ),
    # shapes
    "a scalar": Fault(_answers(lambda r: r.sum()), told=SHAPE),
    "a float": Fault(_answers(lambda r: float(r.sum())), told=SHAPE),
    "one too few": Fault(_answers(lambda r: r[1:]), told=SHAPE),
    "one too many": Fault(_answers(lambda r: torch.cat([r, r[:1]])), told=SHAPE),
    "two columns": Fault(_answers(lambda r: torch.stack([r, r], 1)), told=SHAPE),
    "a matrix": Fault(_answers(lambda r: r[:, None] * r), told=SHAPE),
    "nothing": Fault(_answers(lambda r: r[:0]), told=SHAPE),
    "an empty list": Fault(_answers(lambda r: []), told=SHAPE),
    "a row": Fault(_answers(lambda r: r[None]), told=SHAPE),
    # types
    "None": Fault(_answers(lambda r: None), told=NUMBERS),
    "a text": Fault(_answers(lambda r: "high"), told=NUMBERS),
    "texts": Fault(_answers(lambda r: ["high"] * len(r)), told=NUMBERS),
    "complex numbers": Fault(_answers(lambda r: r + 1j), told=NUMBERS),
    "a dict": Fault(_answers(lambda r: {"reward": r}), told=NUMBERS),
    "a generator": Fault(_answers(lambda r: (float(v) for v in r)), told=NUMBERS),
    "a pair": Fault(_answers(lambda r: (r, {})), told=(*NUMBERS, *SHAPE)),
    "an array of objects": Fault(
        _answers(lambda r: np.array([object()] * len(r), dtype=object)), told=NUMBERS
    ),
    "a sparse tensor": Fault(_answers(_sparse), told=(*NUMBERS, "dense", "sparse")),
    "a tensor on meta": Fault(_answers(lambda r: r.to("meta")), told=(*NUMBERS, *SHAPE, "meta")),
    # right, in other clothes
    "float64": Fault(_answers(lambda r: r.double()), right=True, gradient=True),
    "an array": Fault(_answers(lambda r: r.numpy()), right=True),
    "a list of floats": Fault(_answers(lambda r: r.tolist()), right=True),
    "a list of scalars": Fault(_answers(lambda r: list(r.unbind())), right=True, gradient=True),
    "a column": Fault(_answers(lambda r: r[:, None]), right=True, gradient=True),
    # writes and side effects
    "scales its input in place": Fault(_writes(lambda x: x.mul_(0.5))),
    "zeroes its input": Fault(_writes(lambda x: x.zero_())),
    "writes through a view": Fault(_writes(lambda x: x[:, 1].fill_(7.0))),
    "writes through .data": Fault(_writes(lambda x: x.data.mul_(0.5))),
    "writes through NumPy": Fault(_writes(lambda x: x.numpy().fill(3.0))),
    "a view of its input": Fault(lambda: lambda x: x[:, 0], right=True, gradient=True),
    "keeps its inputs": Fault(_remembers, right=True),
    "sets the seed": Fault(_and(lambda: torch.manual_seed(0)), right=True),
    "draws of the global generator": Fault(_and(lambda: torch.randn(3)), right=True),
    "changes the default dtype": Fault(
        _and(lambda: torch.set_default_dtype(torch.float64)), right=True
    ),
    "turns gradients off": Fault(_and(lambda: torch.set_grad_enabled(False)), right=True),
    "turns gradients on": Fault(_and(lambda: torch.set_grad_enabled(True)), right=True),
    "warns": Fault(_and(lambda: warnings.warn("slow", stacklevel=1)), right=True),
    "sleeps": Fault(_and(lambda: time.sleep(0.01)), right=True),
    "prints": Fault(_and(lambda: print("hello")), right=True),
    # answers that are not a function of the sample
    "counts its calls": Fault(_counting, told=("asked again", "differently")),
    "random": Fault(
        lambda: lambda x: torch.rand(len(x)), told=("asked again", "differently", "batch")
    ),
    "depends on the batch": Fault(_answers(lambda r: r - r.mean()), told=("batch",)),
    "a module in training mode": Fault(_module_in_training, right=True, gradient=True),
    # gradients that are none
    "without a graph": Fault(_answers(lambda r: r.detach()), gradient=True, told=GRAPH),
    "by NumPy": Fault(_answers(lambda r: r.detach().numpy()), gradient=True, told=GRAPH),
    "of a constant": Fault(
        lambda: lambda x: torch.ones(len(x), requires_grad=True), gradient=True, told=GRAPH
    ),
    "with a gradient of NaN": Fault(
        _answers(lambda r: r + 0 * (r - r).sqrt()), gradient=True, told=(*FINITE, "gradient")
    ),
    "with a gradient of zero": Fault(_answers(lambda r: r.round()), gradient=True, told=GRAPH),
    "huge": Fault(_answers(lambda r: r * 1e25), gradient=True, told=(*FINITE, "norm", "gradient")),
}

# what only check_reward is to see: anything finite may come of them
SILENT = {
    "counts its calls",
    "random",
    "depends on the batch",
    "with a gradient of zero",
    "huge",
}
# the same, where no gradient is asked for
SILENT_WITHOUT_GRADIENT = {"of a constant"}


def _policy() -> af.FlowMapPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return af.FlowMapPolicy(policies.MLP(2, width=8, depth=1), (2,)).eval()


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _steer(reward, samples):
    out = af.steer(_policy(), reward, "best_of_n", steps=2, particles=2).sample(
        4, generator=_seeded()
    )
    return {"state": out["state"], "reward": out["reward"]}


def _climb(reward, samples):
    out = af.steer(_policy(), reward, "lookahead", steps=2).sample(4, generator=_seeded())
    return {"state": out["state"], "reward": out["reward"]}


def _tune(reward, samples):
    small: dict[str, Any] = {"steps": 2, "batch_size": 4, "pool": 8, "candidate_steps": 1}
    return af.finetune(
        _policy(), reward, "weighted", 1.0, generator=_seeded(), **small
    ).state_dict()


def _tune_directly(reward, samples):
    from alignflow.finetuning import EndpointDistance, MapRollout

    ways = {"rollout": MapRollout(jumps=2), "regularizer": EndpointDistance()}
    small: dict[str, Any] = {"steps": 2, "batch_size": 4, **ways}
    return af.finetune(_policy(), reward, "direct", 1.0, generator=_seeded(), **small).state_dict()


def _evaluate(reward, samples):
    found = af.evaluate(samples, reward=reward, generator=_seeded())
    return {name: torch.tensor(estimate.value) for name, estimate in found.items()}


def _check(reward, samples):
    report = af.check_reward(reward, _policy(), n=N, generator=_seeded())
    return {"problems": report.problems}


USES: dict[str, tuple[Callable[[Any, torch.Tensor], dict[str, Any]], bool]] = {
    "steer": (_steer, False),
    "steer by gradient": (_climb, True),
    "finetune": (_tune, False),
    "finetune by gradient": (_tune_directly, True),
    "evaluate": (_evaluate, False),
    "check_reward": (_check, False),
}
"""What calls a reward, by name, and whether it needs a gradient."""


def cases(n: int | None = None, seed: int = 0) -> list[tuple[str, str]]:
    """(fault, use): all of them that go together, or n that the seed chooses."""
    every = [
        (name, use)
        for name, fault in FAULTS.items()
        for use, (_, by_gradient) in USES.items()
        if fault.gradient or not by_gradient
    ]
    return every if n is None or n >= len(every) else random.Random(seed).sample(every, n)


def try_case(name: str, use: str) -> Outcome:
    """What comes of a fault in a use."""
    fault, what = FAULTS[name], f"a reward that is faulty ({name}) in {use}"
    twin = apart(lambda: _use(lambda: good, fault.gradient, use), SECONDS)
    answer = apart(lambda: _use(fault.function, fault.gradient, use), SECONDS)
    if twin.kind != "returned":
        return Outcome(what, UNCLEAR, f"the sound twin failed: {twin.error}: {twin.message}")
    if answer.kind == "endless":
        return Outcome(what, ENDLESS, f"not back after {answer.seconds:.0f} s")
    if answer.kind != "returned":
        return _judge_error(what, fault, answer)
    found, changed = answer.value
    if changed:
        return Outcome(what, ACCEPTED, f"afterwards {', '.join(changed)} is another")
    if use == "check_reward":
        return _judge_check(what, name, fault, found["problems"])
    by_gradient = USES[use][1]
    if name in SILENT or (name in SILENT_WITHOUT_GRADIENT and not by_gradient):
        finite = all(torch.isfinite(value).all() for value in found.values())
        return Outcome(what, CLEAR if finite else ACCEPTED, "finite" if finite else "NaN came out")
    return _judge_equal(what, found, twin.value[0])


def _use(make: Callable[[], Any], gradient: bool, use: str) -> tuple[dict[str, Any], list[str]]:
    """What a use gives with a reward, and what of the caller's it changed."""
    torch.set_num_threads(1)
    samples = torch.randn(N, 2, generator=torch.Generator().manual_seed(2))
    before, mode = samples.clone(), torch.is_grad_enabled()
    reward = af.Reward(make(), "faulty", differentiable=gradient)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        found = USES[use][0](reward, samples)
    changed = []
    if samples.shape != before.shape or not torch.equal(samples, before):
        changed.append("the caller's tensor")
    if torch.is_grad_enabled() != mode:
        changed.append("the gradient mode")
    # a tensor that shares memory does not travel between processes; copies do
    plain = {
        key: value.detach().clone() if isinstance(value, torch.Tensor) else value
        for key, value in found.items()
    }
    return {k: _portable(v) for k, v in plain.items()}, changed


def _portable(value: Any) -> Any:
    return torch.from_numpy(value.numpy()) if isinstance(value, torch.Tensor) else value


def _judge_error(what: str, fault: Fault, answer: Answer) -> Outcome:
    said = f"{answer.kind} {answer.error}: {answer.message.strip()[:200]}"
    stops = {"KeyboardInterrupt", "SystemExit"} & set(answer.bases)
    if stops and any(word in said for word in fault.told):
        return Outcome(what, CLEAR, said)  # who stops a program means it
    if not {"RewardError", "ValueError", "FloatingPointError"} & set(answer.bases):
        return Outcome(what, UNCLEAR, said)
    words = [*fault.told, "in place", "writes", "changes"]
    if not any(word.lower() in answer.message.lower() for word in words):
        return Outcome(what, UNCLEAR, f"does not say what is wrong: {said}")
    if fault.right:
        return Outcome(what, UNCLEAR, f"refused although right: {said}")
    return Outcome(what, CLEAR, said)


def _judge_check(what: str, name: str, fault: Fault, problems: list[str]) -> Outcome:
    said = "; ".join(problems) or "sound"
    expected = not fault.right and name != "huge"
    if bool(problems) == expected:
        words = [*fault.told, "changes", "in place", "batch"]
        told = not problems or any(word.lower() in said.lower() for word in words)
        return Outcome(what, CLEAR if told else UNCLEAR, said)
    return Outcome(what, ACCEPTED if not problems else UNCLEAR, said)


def _judge_equal(what: str, found: dict[str, Any], twin: dict[str, Any]) -> Outcome:
    for key, value in twin.items():
        other = found[key]
        if other.dtype != value.dtype or not torch.equal(other, value):
            return Outcome(what, ACCEPTED, f"{key} is not what a sound reward gives")
    return Outcome(what, CLEAR, "as with a sound reward")
