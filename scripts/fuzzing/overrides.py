"""Bad command lines: wrong values, typos and missing files for each command of `alignflow`.

Each runs in a fresh working directory, in a forked process. It must end with a status that is not 0
and a message without a traceback that names what is wrong; and it leaves nothing behind.
"""

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as st

import alignflow as af
from alignflow import cli, policies

from .apart import Answer, apart
from .outcome import UNCLEAR, Outcome, judge_error
from .values import Bad, each, words

__all__ = ["cases", "prepare", "try_case"]

SECONDS = 60.0
OWN_MODULE = """
import alignflow as af

@af.reward(differentiable=True)
def right(points):
    return points[:, 0]

def black(points):
    return points[:, 0]

number = 3
"""
TINY = [
    "policy=mlp",
    "policy.module.width=8",
    "policy.module.depth=1",
    "reward._target_=my_module.right",
    "steerer=lookahead",
    "steerer.steps=2",
    "stages=[steer, evaluate, report]",
    "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4}",
    "hydra.run.dir=out",
]
TRAINED = [
    *TINY,
    "data=ring",
    "training=default",
    "training.steps=2",
    "training.batch_size=4",
    "finetuner=weighted",
    "strength=1.0",
    "finetuner.steps=2",
    "finetuner.batch_size=4",
    "stages=[pretrain, finetune, steer, evaluate]",
]
BENCHMARK = ["suite.samples=32", "suite.seeds=1", "only=[importance]", "folder=out"]


@dataclass(frozen=True)
class Case:
    """A bad command line.

    Args:
        words: Of it, without `alignflow`.
        names: Of which its error must have one.
        came: Of which its error must have one.
    """

    words: tuple[str, ...]
    names: tuple[str, ...]
    came: tuple[str, ...]

    @property
    def source(self) -> str:
        """As it is typed."""
        import shlex

        return shlex.join(["alignflow", *self.words])


def cases(n: int, number: int) -> list[Case]:
    """n of them, cycled through all places, none twice.

    Args:
        n: How many.
        number: The seed.
    """
    from .inputs import draws

    places = list(_places())
    random.Random(number).shuffle(places)
    most = -(-n // len(places)) + 2
    drawn = [
        (place, draws(place.bad, 10_000 * number + i, most)) for i, place in enumerate(places[:n])
    ]
    found: dict[Case, None] = {}
    for turn in range(10 * most):
        for place, values in drawn:
            if turn < len(values) and len(found) < n:
                found[place.case(values[turn])] = None
    return list(found)


def prepare(folder: Path) -> Path:
    """The working directory that every case starts from."""
    (folder / "my_module.py").write_text(OWN_MODULE)
    (folder / "text.txt").write_text("text")
    (folder / "empty").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        af.FlowMapPolicy(policies.MLP(2, width=8, depth=1), (2,)).save(folder / "points")
        unet = policies.UNet(channels=1, widths=(32,), attention=(False,), blocks=1, classes=3)
        af.FlowMapPolicy(unet, (1, 8, 8), decode="image").save(folder / "images")
    return folder


def try_case(case: Case, prepared: Path) -> Outcome:
    """What the command line says of it."""
    folder = Path(tempfile.mkdtemp(prefix="alignflow-fuzz-"))
    try:
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        before = _files(folder)
        answer = apart(lambda: _run(case.words, folder), SECONDS)
        left = sorted(_files(folder) - before - {folder / "said"})
        return _judge(case, answer, [str(path.relative_to(folder)) for path in left])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judge(case: Case, answer: Answer, left: list[str]) -> Outcome:
    if answer.kind != "returned":
        return judge_error(case.source, answer, case.names, case.came, ())
    status, said = answer.value
    if not status:
        return judge_error(case.source, Answer("returned"), (), (), ())
    if "Traceback (most recent call last)" in said:
        return Outcome(case.source, UNCLEAR, "a traceback: " + said.strip().splitlines()[-1])
    if left:
        return Outcome(case.source, UNCLEAR, f"leaves {', '.join(left[:4])}; {said.strip()[:200]}")
    told = Answer("raised", error="error", bases=("error",), message=said)
    return judge_error(case.source, told, case.names, case.came, ("error",))


def _run(arguments: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """Status and standard error of a command line."""
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ["COLUMNS"] = "200"
    # the last one said something is what a user reads: standard error, or else standard output
    said, out = (os.open(folder / "said", os.O_CREAT | os.O_RDWR), os.open(os.devnull, os.O_WRONLY))
    os.dup2(out, 1)
    os.dup2(said, 2)
    sys.argv = ["alignflow", *arguments]
    try:
        status = cli.main(list(arguments))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status, (folder / "said").read_text(errors="replace")


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@dataclass(frozen=True)
class _Place:
    """Where a bad value goes: `words` holds `{}` for it.

    Args:
        words: Of the command line.
        bad: Strategy of values.
        names: Of which an error must have one.
        shows: Whether the error must show the value.
    """

    words: tuple[str, ...]
    bad: Bad
    names: tuple[str, ...]
    shows: bool = True

    def case(self, value: str) -> Case:
        """The case of a value."""
        filled = tuple(word.replace("{}", value) for word in self.words)
        came = tuple(_shown(value)) if self.shows else self.names
        return Case(filled, (*self.names, value) if not self.shows else self.names, came)


NO_NUMBER = ["abc", "nan", "inf", "-inf", "[1]", "{a: 1}", "true", "'2'", "[]"]
NO_COUNT = [*NO_NUMBER, "-1", "2.5", "-0.5", "1e-3"]


def _count(least: int = 1, null: bool = False) -> Bad:
    return each(*NO_COUNT, str(least - 1), *(["null"] if null else []))


def _nonnegative(null: bool = True) -> Bad:
    return each(*NO_NUMBER, "-1", "-1e-3", *(["null"] if null else []))


def _positive() -> Bad:
    return each(*NO_NUMBER, "-1", "0", "null")


def _places() -> Iterator[_Place]:
    yield from _keys()
    yield from _choices()
    yield from _grammar()
    yield from _pictures()
    yield from _others()


def _keys() -> Iterator[_Place]:
    """Keys of `run` and `benchmark` with values that are none."""
    tiny = {
        "seed": _count(0, null=True),
        "steerer.steps": _count(),
        "strength": _nonnegative(),
        "steerer.step_size": _nonnegative(),
        "policy.module.width": _count(null=True),
        "policy.module.depth": _count(null=True),
        "policy.module.dimension": each(*NO_COUNT, "3", "0"),
        "policy.event_shape": each("[3]", "abc", "[0]", "[-1]", "[2.5]", "null", "3.5", "[nan]"),
        "evaluation.samples": _count(2, null=True),
        "evaluation.base_samples": _count(2, null=True),
        "evaluation.steps": _count(null=True),
        "evaluation.batch_size": _count(null=True),
        "condition": each("abc", "[]", "1.5", "nan", "{a: 1}", "[a]", "[nan]", "true"),
        "compile": each("maybe", "2", "nan", "[]", "0.5"),
        "device": each("cuda", "gpu", "cpuu", "3.5", "null", "[]", "cuda:x"),
        "precision": each("fp8", "bf15", "null", "3", "[]", "BF16"),
        "stages": each("abc", "[stear]", "[report, steer]", "[]", "null", "3", "[steer, steer]"),
        "steerer.grid": each("[0, 2]", "[1, 0]", "unifrom", "[0, nan, 1]", "[0, .5]", "nan"),
    }
    trained = {
        "training.steps": _count(null=True),
        "training.batch_size": _count(null=True),
        "training.learning_rate": _positive(),
        "training.checkpoint_every": _count(null=True),
        "training.log_every": _count(null=True),
        "training.loss": each("pds", "null", "3", "PSD"),
        "finetuner.steps": _count(null=True),
        "finetuner.batch_size": _count(null=True),
        "finetuner.method": each("wieghted", "null", "3", "Weighted"),
        "finetuner.pool": each(*NO_COUNT, "1"),
        "finetuner.annealing_stages": each(*NO_COUNT, "0", "5"),
    }
    for base, table in ((TINY, tiny), (TRAINED, trained)):
        for key, bad in table.items():
            last = key.rpartition(".")[2]
            new = (
                "++"
                if key in ("steerer.grid", "training.log_every", "finetuner.annealing_stages")
                else ""
            )
            yield _Place(("run", *base, f"{new}{key}={{}}"), bad, (last, *KEY_ALSO.get(last, ())))
    suite = {"suite.samples": _count(2), "suite.seeds": _count(), "only": each("[nope]", "3")}
    for key, bad in suite.items():
        last = key.rpartition(".")[2]
        yield _Place(("benchmark", *BENCHMARK, f"{key}={{}}"), bad, (last, "case", "method"))


KEY_ALSO = {
    "width": ("MLP",),
    "event_shape": ("shape", "state"),
    "dimension": ("shape", "state", "dimensions"),
    "name": ("folder",),
}


def _choices() -> Iterator[_Place]:
    """Names of groups, keys and targets with a letter wrong."""
    groups = {
        "policy": ["ring", "mlp"],
        "reward": ["ring", "redness"],
        "steerer": ["lookahead", "importance"],
        "judge": ["ring", "digits"],
        "experiment": ["ring", "avatars_glasses"],
        "training": ["default"],
        "data": ["ring"],
        "finetuner": ["weighted", "tilt"],
    }
    for group, known in groups.items():
        yield _Place(("run", *TINY, f"{group}={{}}"), _typos(known), (group,))
    yield _Place(("benchmark", *BENCHMARK, "suite={}"), _typos(["smoke", "ring"]), ("suite",))
    keys = ["seed", "strength", "device", "precision", "compile", "stages", "evaluation.steps"]
    for mark in ("", "+"):
        keyed = ("run", *TINY, mark + "{}=1")
        yield _Place(keyed, _typos([*keys, "steerer.steps"]), ("key", "override", "take"), False)
    yield _Place(("benchmark", *BENCHMARK, "+{}=1"), _typos(["only", "folder"]), ("key",), False)
    options = _typos(["step_size", "strength", "transition"])
    yield _Place(("run", *TINY, "+steerer.{}=1"), options, ("take", "option"), False)
    tuning = _typos(["pool", "batch_size", "learning_rate"])
    yield _Place(("run", *TRAINED, "+finetuner.{}=1"), tuning, ("option", "take"), False)
    targets = each("nowhere.reward", "my_module.absent", "my_module.number", "3", "abc", "os.path")
    yield _Place(("run", *TINY, "reward._target_={}"), targets, ("reward", "target", "imported"))
    parts = each("alignflow.nothing", "nowhere.Net", "abc", "3", "alignflow.policies.MLPP")
    yield _Place(("run", *TINY, "policy.module._target_={}"), parts, ("target", "module"), False)
    yield _Place(("run", *TINY, "policy._target_={}"), parts, ("target", "policy"), False)
    lacking = each("~reward", "~steerer", "~policy", "~policy.module.dimension")
    yield _Place(("run", *TINY, "{}"), lacking, ("reward", "steerer", "policy", "dimension"), False)


def _grammar() -> Iterator[_Place]:
    """What is no override at all, and folders that cannot be."""
    bad = each(
        "steerer.steps",
        "=3",
        "a=b=[",
        "stages=[steer",
        "~nokey",
        "+",
        "steerer.steps=1,2",
        "--no-such-flag",
        "--config-name=nope",
        "--config-dir=nowhere",
        "-x",
        "{",
        "steerer:3",
    )
    told = ("override", "key", "config", "arguments", "usage")
    yield _Place(("run", *TINY, "{}"), bad, told, False)
    yield _Place(("benchmark", *BENCHMARK, "{}"), bad, told, False)
    folders = each("text.txt", "text.txt/deep", "/proc/nothing/here", "/dev/full/x")
    yield _Place(("run", *TINY, "hydra.run.dir={}"), folders, ("folder", "directory", "dir"))
    yield _Place(("benchmark", *BENCHMARK, "folder={}"), folders, ("folder", "directory"))


def _pictures() -> Iterator[_Place]:
    """`sample` and `steer`."""
    counts = each("abc", "0", "-1", "2.5", "nan", "")
    numbers = each("abc", "nan", "inf", "-1", "1j", "")
    models = st.one_of(
        _typos(["avatars", "digits", "ring"]), each("nowhere", "text.txt", "empty", "my_module.py")
    )
    steer = ("steer", "points", "-n", "4", "--steps", "2", "-o", "out.png")
    right = (*steer, "--reward", "my_module:right")
    for option, bad in {
        "-n": counts,
        "--steps": counts,
        "--seed": each("abc", "2.5", "-1"),
    }.items():
        name = (option.strip("-"),)
        yield _Place(("sample", "points", option, "{}", "-o", "out.png"), bad, name)
        yield _Place((*right, option, "{}"), bad, name)
    yield _Place(("sample", "{}", "-n", "2", "-o", "out.png"), models, ("model", "checkpoint"))
    yield _Place(
        ("sample", "images", "-n", "2", "--condition", "{}"),
        each("3", "99", "-7", "abc", "1.5"),
        ("condition", "label", "class"),
    )
    yield _Place(
        ("sample", "images", "-n", "2", "--condition", "1", "--guidance", "{}"),
        each("abc", "nan", "inf"),
        ("guidance",),
    )
    pictures = each("text.txt/deep.png", "/proc/nothing/a.png", "empty", "out.xyz", "")
    names = ("output", "picture", "file", "folder", "directory", "format", "extension")
    yield _Place(("sample", "points", "-n", "2", "-o", "{}"), pictures, names)
    yield _Place((*right, "--strength", "{}"), numbers, ("strength",))
    yield _Place((*right, "--particles", "{}"), each("abc", "0", "-1", "2.5", "3"), ("particles",))
    methods = _typos(["lookahead", "glass", "dps"])
    yield _Place((*right, "--method", "{}"), methods, ("method", "steerer"))
    options = each("step_size=abc", "step_size", "=1", "step_size=-1", "step_size=nan")
    yield _Place((*right, "--options", "{}"), options, ("step_size", "option", "override"))
    # of an option that there is not, its value does not matter
    yield _Place((*right, "--options", "{}"), each("stepsize=1"), ("stepsize",), False)
    rewards = each("nothing", "my_module:absent", "nowhere:f", "my_module:number", "rednes", "")
    yield _Place((*steer, "--reward", "{}"), rewards, ("reward", "imported"))
    yield _Place(
        (*steer[:2], "--reward", "my_module:black", "--method", "{}"),
        each("lookahead", "dps", "fmtt"),
        ("gradient",),
        False,
    )
    yield _Place(("steer", "{}", "--reward", "my_module:right"), models, ("model", "checkpoint"))


def _others() -> Iterator[_Place]:
    """`check-reward`, `resume`, `report`, `list`, and commands that there are not."""
    check = ("check-reward", "my_module:right", "--policy", "points")
    yield _Place((*check, "-n", "{}"), each("abc", "0", "1", "-1", "2.5", "nan"), ("n",))
    yield _Place(
        ("check-reward", "{}", "--policy", "points"),
        each("nothing", "my_module:absent", "nowhere:f", "my_module:number", ":"),
        ("reward", "imported"),
    )
    yield _Place(
        ("check-reward", "my_module:right", "--policy", "{}"),
        each("pointz", "text.txt", "empty", "avatar"),
        ("model", "checkpoint"),
    )
    folders = each("nowhere", "text.txt", "points", "empty", "", "my_module.py/deep")
    for command in ("resume", "report"):
        yield _Place((command, "{}"), folders, ("run", "folder", "missing"))
    yield _Place(("list", "{}"), _typos(["steerers", "rewards", "policies"]), ("kind", "choice"))
    yield _Place(
        ("{}",), _typos(["run", "sample", "steer", "resume", "benchmark"]), ("command", "choice")
    )
    yield _Place(
        ("{}", "--no-such-flag"),
        each("list", "resume", "sample", "report"),
        ("arguments", "usage"),
        False,
    )


def _typos(known: list[str]) -> Bad:
    """Without blanks and capitals, which a command line reads otherwise."""
    return words(known).filter(
        lambda word: word.strip() == word and word.islower() and "." not in word[:1]
    )


def _shown(value: str) -> Iterator[str]:
    yield value
    yield value.strip("'")
    # of a file its ending or the folder, of an option its value
    yield from (value.rpartition(".")[2], value.partition("/")[0], value.rpartition("=")[2])
    try:
        from omegaconf import OmegaConf

        parsed = OmegaConf.to_container(OmegaConf.create({"a": OmegaConf.create(f"a: {value}").a}))
        found = parsed["a"]  # pyright: ignore
    except Exception:
        return
    yield from (repr(found), str(found), type(found).__name__)
    if found is None:
        yield from ("None", "null", "nothing")
    if isinstance(found, list):
        yield from map(str, found)
        yield from ("empty", str(tuple(found)))
    if isinstance(found, float) and not abs(found) < float("inf"):
        yield "finite"
