"""Bad Python inputs: a valid call with exactly one argument broken, or one that does not exist."""

import keyword
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from . import things
from .apart import apart
from .calls import Call, calls
from .outcome import Outcome, judge_error
from .values import Bad, words

__all__ = ["cases", "check_calls", "draws", "try_case", "try_source"]

SECONDS = 20.0
# what a mistake in Python may be answered with; a file's trouble may stay the system's
KINDS = "ValueError TypeError OSError NotImplementedError ImportError FloatingPointError".split()
UNKNOWN = "an option that there is not"
# what an argument is called besides its name
ALSO = {
    "x": ("state", "sample"),
    "s": ("time",),
    "t": ("time",),
    "k": ("draws",),
    "n": ("n", "samples"),
    "module": ("network", "does not fit"),
    "name": ("model", "attribute", "judge", "cluster", "folder", "checkpoint", "label"),
    "weights": ("label", "class"),
    "function": ("reward", "velocity", "flow_map", "map"),
    "candidate": ("reward",),
    "terms": ("term", "sum", "weight", "reward"),
    "event_shape": ("shape",),
    "data": ("batch", "row", "pool"),
    "grid": ("times", "time"),
    "condition": ("label", "class", "classes"),
    "number": ("annealing_stages",),
    "most": ("stage", "annealing_stages"),
    "split": ("split",),
    "path": ("folder", "directory"),
    "size": ("pixels",),
    "means": ("covariances", "weights"),
    "covariances": ("means",),
    "corrections": ("correction", "step_size"),
    "transition": ("noise", "anchor", "name"),
    "posterior": ("solver", "name"),
    "folder": ("path", "directory", "file"),
    "annealing_stages": ("stage", "steps"),
    "judges": ("judge",),
    "reference": ("samples", "states"),
    "rgb": ("color",),
    "image": ("picture", "file"),
    "policy": ("model", "flow map"),
    "teacher": ("model", "flow map"),
    "target": ("tilted", "posterior_sample"),
    "held_out": ("reward", "held-out"),
    "langevin": ("recentering", "distribution"),
    "early_stop": ("held_out",),
    "channels": ("pixels", "images"),
    "labels": ("label",),
    "pixels": ("images",),
}


@dataclass(frozen=True)
class Case:
    """One broken argument.

    Args:
        call: What is called.
        argument: Which is broken.
        value: The bad value, as an expression.
    """

    call: Call
    argument: str
    value: str

    @property
    def source(self) -> str:
        """The call as Python."""
        return self.call.source({self.argument: self.value})


def cases(n: int, number: int) -> list[Case]:
    """n of them, cycled through all arguments, none twice.

    Args:
        n: How many.
        number: The seed.
    """
    places = [place for call in calls() for place in _places(call)]
    random.Random(number).shuffle(places)
    each = -(-n // len(places)) + 2  # some have fewer bad values than others
    drawn = [
        (place, draws(place[2], 10_000 * number + i, each)) for i, place in enumerate(places[:n])
    ]
    found: list[Case] = []
    while len(found) < n:
        before = len(found)
        for (call, argument, _), values in drawn:
            if values and len(found) < n:
                name = values.pop(0) if argument == UNKNOWN else argument
                found.append(Case(call, name, "1" if argument == UNKNOWN else values.pop(0)))
        if len(found) == before:
            break
    return found


def try_case(case: Case) -> Outcome:
    """What the library says of it."""
    unknown = case.argument not in {**case.call.given, **case.call.bad}
    names = (case.argument, *ALSO.get(case.argument, ()))
    answer = apart(lambda: _run(case.source), SECONDS)
    came = (case.argument,) if unknown else _came(case.value)
    return judge_error(case.source, answer, names, came, KINDS)


def try_source(source: str) -> None:
    """Run a case here and now, with its traceback."""
    _run(source)


def check_calls(tried: Sequence[Case]) -> None:
    """Refuse to go on where a call fails before anything of it is broken.

    Raises:
        RuntimeError: With the calls and what they say.
    """
    failing = []
    for source in dict.fromkeys(case.call.source() for case in tried):
        answer = apart(lambda source=source: _run(source), 2 * SECONDS)
        if answer.kind != "returned":
            failing.append(f"{source}\n{answer.trace or answer.kind}")
    if failing:
        raise RuntimeError("sound calls fail:\n" + "\n".join(failing))


def _places(call: Call) -> Iterator[tuple[Call, str, Bad]]:
    for argument, bad in call.bad.items():
        yield call, argument, bad
    if call.unknown:
        real = {*call.given, *call.bad}
        yield call, UNKNOWN, words(call.unknown).filter(lambda word: _is_new(word, real))


def _is_new(word: str, real: Container[str]) -> bool:
    return word.isidentifier() and not keyword.iskeyword(word) and word not in real


def draws(strategy: Bad, number: int, most: int) -> list[str]:
    """Values that hypothesis draws of a strategy, each once."""
    found: dict[str, None] = {}

    @seed(number)
    @settings(
        max_examples=4 * most,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(strategy)
    def draw(value: str) -> None:
        found[value] = None

    draw()
    values = list(found)
    random.Random(number).shuffle(values)
    return values[:most]


def _run(source: str) -> None:
    """Evaluate in a folder, which is then removed."""
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="alignflow-fuzz-"))
    before = Path.cwd()
    try:
        os.chdir(folder)
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            sys.stdout = nowhere
            names = things.namespace(folder)
            thesis = Path(names["precious"]) / "thesis.txt"
            try:
                eval(source, names)
            finally:
                sys.stdout = sys.__stdout__
                if not thesis.exists() or not Path(names["a_file"]).is_file():
                    raise RuntimeError(f"{source} destroyed a file of somebody else")
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def _came(value: str) -> set[str]:
    """How an error may show a value."""
    folder = Path(tempfile.mkdtemp(prefix="alignflow-fuzz-"))
    try:
        found = eval(value, things.namespace(folder))
    except Exception:
        return {value}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return set(_shown(found)) | {value}


def _shown(found: Any, depth: int = 0) -> Iterator[str]:
    yield type(found).__name__
    if isinstance(found, torch.Tensor):
        yield from (str(tuple(found.shape)), str(list(found.shape)), str(found.dtype))
        yield from (str(len(found)) if found.ndim else "()", str(tuple(found.shape[1:])))
        for row in found.flatten()[:4].tolist():
            yield from _shown(row, depth + 1)
        return
    text = repr(found)
    yield from (text, text[:60], str(found))
    if isinstance(found, float | int) and not isinstance(found, bool):
        yield from (f"{found:g}", f"{float(found)}")
        yield from ("torch.float32", "torch.int64", "()")
        if not abs(found) < float("inf"):
            yield from ("NaN", "infinity", "infinite", "finite")
    if isinstance(found, complex):
        yield "torch.complex64"
    if found is None:
        yield from ("None", "none", "nothing")
    if isinstance(found, type):
        yield from (found.__name__, "class")
    if callable(found):
        # or what it answered
        yield from ("function", "callable", "lambda", "of shape")
    if isinstance(found, str):
        yield from (found.strip() or "''", "text", "string")
    if isinstance(found, list | tuple | dict):
        if not found:
            yield from ("empty", "[]", "()")
        yield str(len(found))
        inner = [*found, *found.values()] if isinstance(found, dict) else found
        if depth < 3:
            for item in inner:
                yield from _shown(item, depth + 1)
