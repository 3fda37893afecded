"""What steerers share: a frozen model and tilt, both metered, their cost, and the printed graph."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from alignflow import checks
from alignflow.conditions import repeat_rows
from alignflow.cost import Cost, Meter, MeteredFlowMap, MeteredReward, dry_run, metered
from alignflow.flow_map import FlowMap, Guided, guided
from alignflow.modes import frozen
from alignflow.tilt import Tilt

from .drawing import draw_html, draw_mermaid, draw_table
from .graph_data import node_costs, nodes_and_edges
from .samples import Samples
from .step import Group

__all__ = ["BaseSteerer", "Callback", "check_callback", "counted"]

Callback = Callable[[int, TensorDictBase], None]


class BaseSteerer(ABC):
    """A frozen model and a tilt, of which the nodes of a subclass sample.

    Args:
        policy: The model. Its parameters get no gradients, and it runs in evaluation mode.
        tilt: What the samples are steered to.
        guidance: Of classifier-free guidance; 1 is the conditional model itself.
        micro_batch_size: Rows that go through the model at a time; all by default.
        title: First line of the printed graph.

    Attributes:
        model: The policy, guided, whose forwards are counted.
        metered_tilt: The tilt, whose reward calls are counted.
        nodes: What a subclass builds of both; they know how many particles a system has.
    """

    nodes: Any

    def __init__(
        self,
        policy: FlowMap,
        tilt: Tilt,
        *,
        guidance: float = 1.0,
        micro_batch_size: int | None = None,
        title: str = "",
    ):
        self.policy = policy
        self.tilt = tilt
        self.model: FlowMap = MeteredFlowMap(policy)
        if checks.finite("guidance", guidance) != 1.0:
            self.model = guided(self.model, guidance)
        self.metered_tilt = tilt.with_reward(MeteredReward(tilt.reward))
        self.micro_batch_size = (
            None if micro_batch_size is None else checks.count("micro_batch_size", micro_batch_size)
        )
        self.title = title

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps a sample takes."""

    @property
    @abstractmethod
    def base_steps(self) -> int:
        """Steps in which the base makes a sample of the same noise."""

    @property
    def particles(self) -> int:
        """M, of each system: particles, or the replicas of a chain."""
        return self.nodes.particles

    @abstractmethod
    def groups(self, step: int) -> list[Group]:
        """The nodes of a step, in the order in which they run."""

    @abstractmethod
    def sample(
        self,
        n: int,
        condition: Any = None,
        generator: torch.Generator | int | None = None,
        callback: Callback | None = None,
        return_trajectory: bool = False,
    ) -> Samples:
        """Run n independent systems of M particles."""

    @cached_property
    def cost(self) -> Cost:
        """What one system will cost, counted in a dry run."""
        with self._dry_run() as meter:
            return self._spent(meter)

    def graph(self) -> dict[str, Any]:
        """The graph of a guided step as data that JSON can hold.

        Returns:
            `title` and `about`; `nodes`, each with its `name`, the keys that it `reads` and
            `writes`, and its `cost` for one row; `edges`, with the index of the `source` (None is
            the steerer itself) and of the `target`, and the `keys` between them; and the `cost` of
            one system over all steps.
        """
        with self._dry_run() as meter:
            groups, start = self._shown_step()
            costs = node_costs(groups, start, self.micro_batch_size, meter)
        described = {"title": self.title, "about": self._about(), "cost": asdict(self.cost)}
        return described | nodes_and_edges(costs)

    def __repr__(self) -> str:
        return draw_table(self.graph())

    def _repr_html_(self) -> str:
        return draw_html(self.graph())

    def mermaid(self) -> str:
        """The graph of a guided step as a Mermaid flowchart."""
        return draw_mermaid(self.graph())

    @abstractmethod
    def _spent(self, meter: Meter) -> Cost:
        """What one system costs, in a dry run with a meter."""

    @abstractmethod
    def _shown_step(self) -> tuple[Sequence[Group], TensorDictBase]:
        """Groups of the step that a graph shows, and the rows at its start, in a dry run."""

    @abstractmethod
    def _about(self) -> str:
        """Steps and particles in words."""

    @contextmanager
    def _sampling(self) -> Iterator[Meter]:
        """Calls inside are counted, with model and reward frozen and without a graph."""
        with (
            metered() as meter,
            frozen(self.policy, self.tilt.reward),
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            yield meter

    @contextmanager
    def _dry_run(self) -> Iterator[Meter]:
        """Calls of the model and the reward inside are counted, and not made."""
        with dry_run(), metered() as meter, torch.inference_mode(False), torch.no_grad():
            yield meter

    def _start(self, n: int, condition: Any, generator: torch.Generator | None) -> TensorDict:
        """Noise of n systems, with their condition: n M rows, particles of a system together."""
        rows = n * self.particles
        tensordict = TensorDict({"state": self.policy.noise(rows, generator)}, batch_size=[rows])
        if condition is not None:
            condition = self.policy.condition_rows(condition, n)
            tensordict.set("condition", repeat_rows(condition, self.particles))
        return tensordict

    def _dry_start(self) -> TensorDict:
        """Of one system, with a condition where guidance must have one."""
        tensordict = self._start(1, None, torch.Generator().manual_seed(0))
        if isinstance(self.model, Guided):
            tensordict["condition"] = torch.zeros(
                len(tensordict), device=tensordict["state"].device
            )
        return tensordict


def check_callback(callback: Callback | None) -> None:
    """Refuse what cannot be called after a step."""
    if callback is not None:
        checks.called("callback", callback, "(step, tensordict)")


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 step, 2 steps."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
