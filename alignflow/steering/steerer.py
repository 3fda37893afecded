"""The steerer: the nodes of a method run over a time grid, with the model frozen."""

import math
from collections.abc import Callable

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.conditions import repeat_rows
from alignflow.cost import Cost, MeteredFlowMap, MeteredReward, metered
from alignflow.flow_map import FlowMap, Guided
from alignflow.graph import Node
from alignflow.modes import frozen
from alignflow.posteriors import Velocity
from alignflow.reward_module import Reward

from .drawing import draw_html, draw_mermaid, draw_table
from .nodes import FinishedReward, Group, Nodes, check_keys, step_groups
from .run import naming_step, run_group
from .samples import Samples

__all__ = ["Steerer"]


class Steerer:
    """A frozen model and the graph that steers it; `sample` runs the graph over the grid.

    Args:
        policy: The model. Its parameters get no gradients, and it runs in evaluation mode.
        reward: What is to be high.
        build: `build(model, reward)` gives the nodes; the two it is handed are counted.
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
        reward: Reward,
        build: Callable[[FlowMap, Reward], Nodes],
        times: Tensor,
        *,
        guidance: float = 1.0,
        micro_batch_size: int | None = None,
        title: str = "",
    ):
        self.policy = policy
        self.reward = reward
        model: FlowMap = MeteredFlowMap(policy)
        if checks.finite("guidance", guidance) != 1.0:
            model = Guided(model, guidance)
        metered_reward = MeteredReward(reward)
        self.nodes = build(model, metered_reward)
        self.velocity = Velocity(model)
        self.finished = FinishedReward(model, metered_reward)
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

    @property
    def cost(self) -> Cost:
        """What one system will cost, by what the nodes say of themselves."""
        groups = [group for step in range(self.steps) for group in self.groups(step)]
        nodes = [self.finished, *(node for group in groups for node in group)]
        return sum(map(self.cost_of, nodes), Cost()) * self.nodes.particles

    def cost_of(self, node: Node) -> Cost:
        """What a node costs for one row."""
        return self.nodes.cost_of(node, self.micro_batch_size)

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
            frozen(self.policy, self.reward),
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            tensordict = self._start(n, condition, generator, return_trajectory)
            for step in range(self.steps):
                tensordict = self._step(tensordict, step, generator)
                if return_trajectory:
                    path = (tensordict["trajectory"], tensordict["state"].unsqueeze(1))
                    tensordict["trajectory"] = torch.cat(path, dim=1)
                if callback is not None:
                    callback(step, tensordict)
            with naming_step(self.steps, 1.0):
                tensordict = run_group((self.finished,), tensordict, self.micro_batch_size)
            tensordict = self.nodes.resampler.finish(tensordict)
            return self._collect(tensordict, n, meter.total, generator)

    def _start(self, n: int, condition, generator, keep_path: bool) -> TensorDict:
        rows = n * self.nodes.particles
        state = self.policy.noise(rows, generator)
        tensordict = TensorDict({"state": state}, batch_size=[rows])
        if condition is not None:
            condition = self.policy.condition_rows(condition, n)
            tensordict.set("condition", repeat_rows(condition, self.nodes.particles))
        if keep_path:
            tensordict["trajectory"] = state.unsqueeze(1)
        return tensordict

    def _step(
        self, tensordict: TensorDictBase, step: int, generator: torch.Generator | None
    ) -> TensorDictBase:
        # what the last step wrote holds for another state; only what belongs to a particle stays
        kept = ("state", "condition", "trajectory", *self.nodes.resampler.carries)
        tensordict = tensordict.select(*kept, strict=False)
        start, end = self.times[step : step + 2]
        state = tensordict["state"]
        times = {"time": start, "target_time": end, "step_length": end - start}
        for key, time in times.items():
            tensordict[key] = state.new_full(state.shape[:1], time)
        with naming_step(step, start):
            for group in self.groups(step):
                tensordict = run_group(group, tensordict, self.micro_batch_size, generator)
        return tensordict

    def _collect(self, tensordict, n: int, cost: Cost, generator) -> Samples:
        keys = ("state", "reward", "log_weight")
        particles = TensorDict(
            {key: tensordict[key].unflatten(0, (n, -1)) for key in keys},
            batch_size=[n, len(tensordict) // n],
        )
        chosen = self.nodes.resampler.choose(
            particles["reward"], particles["log_weight"], generator
        )
        systems = torch.arange(n, device=chosen.device)
        out = Samples({key: particles[key][systems, chosen] for key in ("state", "reward")})
        out["particles"] = particles
        if "trajectory" in tensordict.keys():
            out["trajectory"] = tensordict["trajectory"].unflatten(0, (n, -1))[systems, chosen]
        for name, count in cost.items():
            # an adaptive solver may take other steps for each micro-batch: then a mean
            out[name] = torch.tensor(count / n if count % n else count // n)
        return out

    def __repr__(self) -> str:
        return draw_table(self)

    def _repr_html_(self) -> str:
        return draw_html(self)

    def mermaid(self) -> str:
        """The graph of a guided step as a Mermaid flowchart."""
        return draw_mermaid(self)

    def _check(self) -> None:
        first, last, t_min = self.times[0], self.times[-1], self.nodes.t_min
        if first != 0.0 or last != 1.0:
            raise ValueError(f"a grid to steer over runs from 0 to 1, got {first} to {last}")
        steers = self.nodes.posterior is not None and self.nodes.ascent is None
        if steers and not any(map(self.guides, self.times[:-1])):
            raise ValueError(
                f"no step starts between t_min={t_min} and t_max={self.nodes.t_max}, so nothing "
                "would be guided: take more steps, or put a time there into the grid"
            )
        for step in range(self.steps):
            check_keys(self.groups(step))
