"""Damaged checkpoints of every kind that the library reads: each must be refused by its path."""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import alignflow as af
from alignflow import policies
from alignflow.checkpoint import load_folder, load_frozen, save_folder

from .apart import Answer, apart
from .damage import DAMAGES, POLICY_DAMAGES, Damage, damage, make_policy
from .outcome import ACCEPTED, CLEAR, ENDLESS, UNCLEAR, Outcome
from .things import red

__all__ = ["SUBJECTS", "prepare", "try_batch"]

SECONDS = 10.0
GIGABYTES = 0.5  # what a refusal may take: the checkpoints are of a few kB


@dataclass(frozen=True)
class Subject:
    """A checkpoint that the library reads.

    Args:
        save: Writes one into a folder, with a seed.
        load: Reads it as the library does.
        checkpoint: Where in the folder the checkpoint lies.
        damages: What it must refuse.
    """

    save: Callable[[Path, int], Any]
    load: Callable[[Path], dict[str, Any]]
    checkpoint: str = "."
    damages: dict[str, Damage] = field(default_factory=lambda: DAMAGES)


def _policy(seed: int) -> af.FlowMapPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = policies.MLP(2, width=8 + seed, depth=2)
        return af.FlowMapPolicy(network, (2,), facts={"card": "a model", "trained": 3}).eval()


def _save_policy(number: int, folder: Path, seed: int) -> None:
    make_policy(number + 4 * seed).save(folder)


def _judge(seed: int) -> policies.Judge:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return policies.Judge(["a", "b"], 1, 8, True, widths=(4,), features=4 + seed)


def _load_policy(folder: Path) -> dict[str, Any]:
    policy = af.load(folder)
    told = (policy.parametrization, policy.decoder, policy.invertible, policy.stochastic)
    return {
        **policy.state_dict(),
        "told": (tuple(policy.event_shape), *told, policy.data_std, json.dumps(policy.facts)),
        "network": (type(policy.module).__name__, str(getattr(policy.module, "arguments", None))),
    }


def _pretrain(folder: Path, seed: int = 0) -> dict[str, Any]:
    data = torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
    return af.pretrain(_policy(seed), data, steps=4, batch_size=4, folder=folder).state_dict()


def _tune(folder: Path, seed: int = 0) -> dict[str, Any]:
    small: dict[str, Any] = {"steps": 2, "batch_size": 4, "pool": 8, "candidate_steps": 1}
    return af.finetune(_policy(seed), red, "weighted", 1.0, folder=folder, **small).state_dict()


def _samples(folder: Path, seed: int) -> None:
    x = torch.randn(4 + seed, 2, generator=torch.Generator().manual_seed(seed))
    save_folder(folder, {"state": x, "reward": x[:, 0], "nfe": torch.full((4 + seed,), 4)}, {})


def _load_samples(folder: Path) -> dict[str, Any]:
    tensors, facts = load_folder(folder)
    return {**tensors, "facts": json.dumps(facts)}


def _save_judge(folder: Path, seed: int) -> None:
    judge = _judge(seed)
    save_folder(folder, judge.state_dict(), {"network": "judge", "arguments": judge.arguments})


def _load_judge(folder: Path) -> dict[str, Any]:
    judge = load_frozen(folder, "judge", policies.Judge)
    return {**judge.state_dict(), "arguments": str(judge.arguments)}


SUBJECTS: dict[str, Subject] = {
    **{
        f"policy_{number}": Subject(
            partial(_save_policy, number), _load_policy, ".", POLICY_DAMAGES
        )
        for number in range(4)
    },
    "judge": Subject(_save_judge, _load_judge),
    "samples": Subject(_samples, _load_samples),
    "pretraining": Subject(_pretrain, _pretrain, "checkpoint"),
    "tuning": Subject(_tune, _tune, "checkpoint"),
}


def prepare(folder: Path) -> dict[str, dict[str, Any]]:
    """Write a sound checkpoint of each kind, and another one; what the first ones hold."""
    torch.set_num_threads(1)
    for name, subject in SUBJECTS.items():
        for seed in (0, 1):
            subject.save(folder / f"{name}_{seed}", seed)
    return {name: subject.load(folder / f"{name}_0") for name, subject in SUBJECTS.items()}


def try_batch(
    numbers: Sequence[int], seed: int, prepared: Path, sound: dict[str, dict[str, Any]]
) -> list[Outcome]:
    """The outcomes of several cases; each again apart if they cannot be had together.

    Args:
        numbers: Of the cases, which are what the seed makes of them.
        seed: Of them all.
        prepared: Folder that `prepare` wrote into.
        sound: What it gave.
    """

    def together() -> list[Outcome]:
        return [_try(number, seed, prepared, sound) for number in numbers]

    answer = apart(together, SECONDS * (1 if len(numbers) == 1 else 3), GIGABYTES)
    if answer.kind == "returned":
        return answer.value
    if len(numbers) > 1:
        return [try_batch([number], seed, prepared, sound)[0] for number in numbers]
    what = f"checkpoint {numbers[0]} of seed {seed}"
    if answer.kind == "endless":
        return [Outcome(what, ENDLESS, f"not back after {answer.seconds:.0f} s")]
    return [
        Outcome(what, UNCLEAR, f"{answer.kind} {answer.value}: {answer.error} {answer.message}")
    ]


def _try(number: int, seed: int, prepared: Path, sound: dict[str, dict[str, Any]]) -> Outcome:
    chance = random.Random(f"{seed}-{number}")
    name = chance.choice(list(SUBJECTS))
    subject = SUBJECTS[name]
    place = Path(tempfile.mkdtemp(prefix="alignflow-fuzz-"))
    try:
        folder = place / name
        shutil.copytree(prepared / f"{name}_0", folder)
        other = prepared / f"{name}_1"
        places = folder / subject.checkpoint, other / subject.checkpoint
        deed = damage(*places, chance, subject.damages)
        what = f"checkpoint {number} of seed {seed}: {name}, {deed}"
        try:
            found = subject.load(folder)
        except BaseException as error:
            bases = tuple(kind.__name__ for kind in type(error).__mro__)
            said = Answer("raised", error=type(error).__name__, bases=bases, message=str(error))
            return _judge_error(what, said, folder)
        if _equal(found, sound[name]):
            return Outcome(what, ACCEPTED, "read as if it were sound")
        return Outcome(what, ACCEPTED, "read as something else")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _judge_error(what: str, said: Answer, folder: Path) -> Outcome:
    told = f"{said.error}: {said.message.strip()[:300]}"
    if "CheckpointError" not in said.bases:
        return Outcome(what, UNCLEAR, told)
    if str(folder) not in said.message:
        return Outcome(what, UNCLEAR, f"does not name the folder: {told}")
    return Outcome(what, CLEAR, told)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
