"""Suites: which methods are measured on which cases, as configs under configs/suite say."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig

from alignflow import checks
from alignflow.flow_map import FlowMap
from alignflow.pipeline import build, build_reward
from alignflow.precision import PRECISIONS
from alignflow.reward_module import Reward
from alignflow.tilt import Tilt

__all__ = ["Case", "Suite", "build_suite"]


@dataclass(frozen=True)
class Case:
    """A model, and the tilt of it that methods aim at.

    Args:
        name: With the strength, what tables call it.
        policy: What is steered.
        target: What has the exact tilt; the policy itself in a closed form.
        tilt: What methods aim at.
        samples: Of each method, and of the exact tilt beside it.
        rows: Names of the methods and tuners that are measured on it; all if there are none.
        rate: A reward whose mean is a rate, such as whether a sample has an attribute; None where
            none is measured.
        precision: In which steerers run the model, fp32 or bf16.
    """

    name: str
    policy: FlowMap
    target: Any
    tilt: Tilt
    samples: int
    rows: tuple[str, ...] = ()
    rate: Reward | None = None
    precision: str = "fp32"

    @property
    def title(self) -> str:
        return f"{self.name}, strength {self.tilt.strength:g}"

    def measures(self, name: str) -> bool:
        """Whether a method or tuner of the suite is measured on it."""
        return not self.rows or name in self.rows


@dataclass(frozen=True)
class Suite:
    """Methods to measure on cases.

    Args:
        name: Of the suite.
        about: A paragraph or more for its page, in Markdown: what to look for, published numbers.
        seeds: Independent repetitions, which standard errors come from.
        cases: Of the suite.
        methods: Options of `af.steer` by the name that tables show; `particles: all` is one system
            with as many particles as there are samples.
        tuners: Options of `af.finetune`, likewise.
        floors: Times that exact samples are measured, which is all the floor that there is; as
            many as seeds by default.
    """

    name: str
    about: str
    seeds: int
    cases: list[Case]
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    tuners: dict[str, dict[str, Any]] = field(default_factory=dict)
    floors: int = 0


def build_suite(config: DictConfig, only: Collection[str] = ()) -> Suite:
    """A suite from its config; `samples` is a number, or a list to see how errors fall with it.

    A case may name in `rows` the methods and tuners that are measured on it, and in `rate` a reward
    whose mean is compared with that of the exact tilt. `precision: bf16` runs steered models in it.

    Args:
        config: Of `configs/suite`.
        only: Names of cases, or of methods and tuners, to keep; all where none is named.

    Raises:
        ValueError: If the suite has none of a name, or a number is none of its kind.
    """
    if isinstance(only, str) or not isinstance(only, Sequence):
        raise ValueError(f"only must be a list of names, only=[ring], got {checks.shown(only)}")
    sizes, seeds, floors = _numbers(config)
    found = {
        kind: {str(name): node for name, node in config.get(kind, {}).items()}
        for kind in ("cases", "methods", "tuners")
    }
    known = {name for nodes in found.values() for name in nodes}
    if unknown := sorted(set(only) - known):
        raise ValueError(
            f"only names {', '.join(unknown)}, which the suite {config.name} has not: it has "
            f"{', '.join(sorted(known))}"
        )
    cases = _named(found["cases"], only)
    everything = found["methods"] | found["tuners"]
    rows = _named(everything, only)
    methods, tuners = (
        {name: build(node) for name, node in rows.items() if name in found[kind]}
        for kind in ("methods", "tuners")
    )
    for name, node in cases.items():
        for row in node.get("rows", ()):
            checks.choice(f"each of the rows of {name}", row, everything)
    precision = checks.choice("suite.precision", config.get("precision", "fp32"), PRECISIONS)
    built = [case for name, node in cases.items() for case in _cases(name, node, sizes, precision)]
    return Suite(
        config.name,
        config.get("about", "").strip(),
        seeds,
        built,
        methods,
        tuners,
        floors,
    )


def _numbers(config: DictConfig) -> tuple[list[int], int, int]:
    """Sample sizes, seeds and floors."""
    given = config.samples
    sizes = list(given) if isinstance(given, ListConfig) else [given]
    if not sizes:
        raise ValueError("suite.samples must be a number or a list of some, got []")
    # distances need two
    sizes = [checks.count("suite.samples", size, least=2) for size in sizes]
    seeds = checks.count("suite.seeds", config.seeds)
    return sizes, seeds, checks.count("suite.floors", config.get("floors", seeds))


def _named(nodes: dict[str, Any], only: Collection[str]) -> dict[str, Any]:
    """Those that are named, or all where none is."""
    chosen = nodes.keys() & set(only) or nodes.keys()
    return {name: node for name, node in nodes.items() if name in chosen}


def _cases(name: str, node: DictConfig, sizes: list[int], precision: str) -> Iterator[Case]:
    target = build(node.target)
    # a policy that is trained here draws its first weights from torch's global generator
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = build(node.policy) if "policy" in node else target
    reward, rows = build_reward(node.reward), tuple(node.get("rows", ()))
    rate = None
    if "rate" in node:
        # one object, so that a data set is scored once for both
        rate = reward if node.rate == node.reward else build_reward(node.rate)
    for strength, samples in product(node.strengths, sizes):
        yield Case(name, policy, target, Tilt(reward, strength), samples, rows, rate, precision)
