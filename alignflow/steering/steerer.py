"""The steerer: the nodes of a method run over a time grid, with the model frozen."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.conditions import repeat_rows
from alignflow.cost import Cost, Meter, MeteredFlowMap, MeteredReward, dry_run, metered
from alignflow.flow_map import FlowMap, Guided, guided
from alignflow.modes import frozen
from alignflow.posteriors import Velocity
from alignflow.tilt import Tilt

from .drawing import draw_html, draw_mermaid, draw_table
from .execution import naming_step, run_group
from .graph_data import node_costs, nodes_and_edges
from .nodes import Nodes
from .samples import Samples, collect
from .step import FinishedReward, Group, check_keys, step_groups

__all__ = ["Steerer"]


class Steerer:
    """A frozen model and the graph that steers it; `sample` runs the graph over the grid.

    Args:
        policy: The model. Its parameters get no gradients, and it runs in evaluation mode.
        tilt: What the samples are steered to.
        build: A callable `(model, tilt) -> Nodes`, such as `recipe.nodes`; calls of the model and
            the reward that it is given are counted.
        times: The grid, (steps + 1,), increasing from 0 to 1.
        guidance: Of classifier-free guidance; 1 is the conditional model itself.
        micro_batch_size: Rows (particles of all systems) that go through the model at a time; all
            by default. The result does not depend on it, but for a reward with on_invalid="worst",
            whose worst is then that of the micro-batch.
        title: First line of the printed graph.

    Raises:
        ValueError: If the grid does not run from 0 to 1, no step is guided, or a node lacks a key.
    """

    def __init__(
        self,
        policy: FlowMap,
        tilt: Tilt,
        build: Callable[[FlowMap, Tilt], Nodes],
        times: Tensor,
        *,
        guidance: float = 1.0,
        micro_batch_size: int | None = None,
        title: str = "",
    ):
        self.policy = policy
        self.tilt = tilt
        model: FlowMap = MeteredFlowMap(policy)
        if checks.finite("guidance", guidance) != 1.0:
            model = guided(model, guidance)
        reward = MeteredReward(tilt.reward)
        self.nodes = build(model, tilt.with_reward(reward))
        self.velocity = Velocity(model)
        self.finished = FinishedReward(model, reward)
        self.times: list[float] = times.tolist()
        # in the precision that the steps themselves will have
        exact = times.to(policy.device, policy.dtype)
        self.noisy = (self.nodes.transition.std(exact[:-1], exact[1:]) > 0).tolist()
        self.micro_batch_size = (
            None if micro_batch_size is None else checks.count("micro_batch_size", micro_batch_size)
        )
        self.title = title
        self._check()

    @property
    def steps(self) -> int:
        """Steps of the grid."""
        return len(self.times) - 1

    def groups(self, step: int) -> list[Group]:
        """The nodes of a step, in the order in which they run."""
        guided, last = self.guides(self.times[step]), step == self.steps - 1
        first, noisy = step == 0, self.noisy[step]
        return step_groups(self.nodes, self.velocity, guided, first, last, noisy)

    def guides(self, time: float) -> bool:
        """Whether a step that starts at this time is guided."""
        t_min, t_max = self.nodes.t_min, self.nodes.t_max
        # a grid in float32 holds a t_min that is rounded
        started = time >= t_min or math.isclose(time, t_min, rel_tol=1e-6)
        return started and time < t_max and self.nodes.ascent is None

    @cached_property
    def cost(self) -> Cost:
        """What one system will cost, counted in a dry run."""
        with self._dry_run() as meter:
            self._run(self._dry_start(), torch.Generator().manual_seed(0))
            return meter.total

    def sample(
        self,
        n: int,
        condition=None,
        generator: torch.Generator | int | None = None,
        callback: Callable[[int, TensorDictBase], None] | None = None,
        return_trajectory: bool = False,
    ) -> Samples:
        """Run n independent systems of M particles from noise to data.

        Args:
            n: Number of systems.
            condition: One for all systems (a number, a tensor of one row), or n of them (a tensor
                or TensorDict of n rows).
            generator: Source of all randomness, or its seed.
            callback: Called after each step with its index and the flat batch (n M rows, particles
                of a system side by side): `state` at `time`, and what the step wrote on its way.
            return_trajectory: Keep the path of each returned sample.

        Returns:
            A TensorDict of `state` (n, *E) and `reward` (n,), one sample of each system;
            `particles`, with `state` (n, M, *E), `reward` and `log_weight` (n, M); and what one
            system cost, counted: `nfe`, `vjps`, `reward_calls`, `reward_vjps` (scalars). With
            `return_trajectory`, also `trajectory` (n, steps + 1, *E), from noise to data.

        Raises:
            RewardError: If the reward fails; it names the reward, the step and the samples.
        """
        n, generator = checks.count("n", n), checks.as_generator(generator)
        checks.flag("return_trajectory", return_trajectory)
        if callback is not None:
            checks.called("callback", callback, "(step, tensordict)")
        with (
            metered() as meter,
            frozen(self.policy, self.tilt.reward),
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            tensordict = self._start(n, condition, generator)
            if return_trajectory:
                tensordict["trajectory"] = tensordict["state"].unsqueeze(1)
            tensordict = self._run(tensordict, generator, callback)
            return collect(tensordict, n, self.nodes.resampler, meter.total, generator)

    def _start(self, n: int, condition: Any, generator: torch.Generator | None) -> TensorDict:
        rows = n * self.nodes.particles
        tensordict = TensorDict({"state": self.policy.noise(rows, generator)}, batch_size=[rows])
        if condition is not None:
            condition = self.policy.condition_rows(condition, n)
            tensordict.set("condition", repeat_rows(condition, self.nodes.particles))
        return tensordict

    def _dry_start(self) -> TensorDict:
        """Of one system, with a condition where guidance must have one."""
        tensordict = self._start(1, None, torch.Generator().manual_seed(0))
        if isinstance(self.velocity.model, Guided):
            tensordict["condition"] = torch.zeros(
                len(tensordict), device=tensordict["state"].device
            )
        return tensordict

    def _run(
        self,
        tensordict: TensorDictBase,
        generator: torch.Generator | None,
        callback: Callable[[int, TensorDictBase], None] | None = None,
    ) -> TensorDictBase:
        """All steps, and the rewards and weights of what they end in."""
        for step in range(self.steps):
            tensordict = self._step(tensordict, step, generator)
            if "trajectory" in tensordict.keys():
                path = (tensordict["trajectory"], tensordict["state"].unsqueeze(1))
                tensordict["trajectory"] = torch.cat(path, dim=1)
            if callback is not None:
                callback(step, tensordict)
        with naming_step(self.steps, 1.0):
            tensordict = run_group((self.finished,), tensordict, self.micro_batch_size)
        return self.nodes.resampler.finish(tensordict)

    @contextmanager
    def _dry_run(self) -> Iterator[Meter]:
        """Calls of the model and the reward inside are counted, and not made."""
        with dry_run(), metered() as meter, torch.inference_mode(False), torch.no_grad():
            yield meter

    def _step(
        self, tensordict: TensorDictBase, step: int, generator: torch.Generator | None
    ) -> TensorDictBase:
        tensordict = self._at(tensordict, step)
        with naming_step(step, self.times[step]):
            for group in self.groups(step):
                tensordict = run_group(group, tensordict, self.micro_batch_size, generator)
        return tensordict

    def _at(self, tensordict: TensorDictBase, step: int) -> TensorDictBase:
        """A batch at the start of a step."""
        # what the last step wrote holds for another state; only what belongs to a particle stays
        carried = ("state", "condition", "trajectory", *self.nodes.resampler.carries)
        tensordict = tensordict.select(*carried, strict=False)
        start, end = self.times[step : step + 2]
        state = tensordict["state"]
        times = {"time": start, "target_time": end, "step_length": end - start}
        for key, time in times.items():
            tensordict[key] = state.new_full(state.shape[:1], time)
        return tensordict

    def graph(self) -> dict[str, Any]:
        """The graph of a guided step as data that JSON can hold.

        Returns:
            `title` and `about`; `nodes`, each with its `name`, the keys that it `reads` and
            `writes`, and its `cost` for one row; `edges`, with the index of the `source` (None is
            the steerer itself) and of the `target`, and the `keys` between them; and the `cost` of
            one system over all steps.
        """
        guided = (k for k in range(self.steps) if self.guides(self.times[k]))
        step = next(guided, 0)
        with self._dry_run() as meter:
            start = self._at(self._dry_start(), step)
            costs = node_costs(self.groups(step), start, self.micro_batch_size, meter)
        described = {"title": self.title, "about": self._about(), "cost": asdict(self.cost)}
        return described | nodes_and_edges(costs)

    def __repr__(self) -> str:
        return draw_table(self.graph())

    def _repr_html_(self) -> str:
        return draw_html(self.graph())

    def mermaid(self) -> str:
        """The graph of a guided step as a Mermaid flowchart."""
        return draw_mermaid(self.graph())

    def _about(self) -> str:
        when = f", guided from t = {self.nodes.t_min:g}" if self.nodes.t_min > 0 else ""
        steps, particles = _count(self.steps, "step"), _count(self.nodes.particles, "particle")
        return f"{steps} from noise to data{when}; {particles} a system"

    def _check(self) -> None:
        first, last, t_min = self.times[0], self.times[-1], self.nodes.t_min
        if first != 0.0 or last != 1.0:
            raise ValueError(f"a grid to steer over runs from 0 to 1, got {first} to {last}")
        looks = self.nodes.posterior is not None or self.nodes.value is not None
        steers = looks and self.nodes.ascent is None
        if steers and not any(map(self.guides, self.times[:-1])):
            raise ValueError(
                f"no step starts between t_min={t_min} and t_max={self.nodes.t_max}, so nothing "
                "would be guided: take more steps, or put a time there into the grid"
            )
        for step in range(self.steps):
            check_keys(self.groups(step))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
