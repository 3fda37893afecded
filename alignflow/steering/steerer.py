"""The steerer: the nodes of a method run over a time grid, with the model frozen."""

import math
from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.cost import Cost, Meter
from alignflow.flow_map import FlowMap
from alignflow.posteriors import Velocity
from alignflow.tilt import Tilt

from .base_steerer import BaseSteerer, Callback, check_callback, counted
from .execution import naming_step, run_group
from .nodes import Nodes
from .samples import Samples, choose_rows, collect
from .step import FinishedReward, Group, check_keys, step_groups

__all__ = ["Steerer"]


class Steerer(BaseSteerer):
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

    nodes: Nodes

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
        shared = {"guidance": guidance, "micro_batch_size": micro_batch_size, "title": title}
        super().__init__(policy, tilt, **shared)
        self.nodes = build(self.model, self.metered_tilt)
        self.velocity = Velocity(self.model)
        self.finished = FinishedReward(self.model, self.metered_tilt.reward)
        self.times: list[float] = times.tolist()
        # in the precision that the steps themselves will have
        exact = times.to(policy.device, policy.dtype)
        self.noisy = (self.nodes.transition.std(exact[:-1], exact[1:]) > 0).tolist()
        self._check()

    @property
    def steps(self) -> int:
        """Steps of the grid."""
        return len(self.times) - 1

    @property
    def base_steps(self) -> int:
        """The base's samples of the same noise take as many."""
        return self.steps

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

    def sample(
        self,
        n: int,
        condition=None,
        generator: torch.Generator | int | None = None,
        callback: Callback | None = None,
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
        check_callback(callback)
        with self._sampling() as meter:
            tensordict = self._start(n, condition, generator)
            if return_trajectory:
                tensordict["trajectory"] = tensordict["state"].unsqueeze(1)
            tensordict = self._run(tensordict, generator, callback)
            rows = choose_rows(tensordict, n, self.nodes.resampler, generator)
            return collect(tensordict, rows, meter.total)

    def _run(
        self,
        tensordict: TensorDictBase,
        generator: torch.Generator | None,
        callback: Callback | None = None,
    ) -> TensorDictBase:
        """All steps, and the rewards and weights of what they end in."""
        for step in range(self.steps):
            tensordict = self._step(tensordict, step, generator)
            if "trajectory" in tensordict.keys():
                path = (tensordict["trajectory"], tensordict["state"].unsqueeze(1))
                tensordict["trajectory"] = torch.cat(path, dim=1)
            if callback is not None:
                callback(step, tensordict)
        with naming_step(f"at step {self.steps} (time 1)"):
            tensordict = run_group((self.finished,), tensordict, self.micro_batch_size)
        return self.nodes.resampler.finish(tensordict)

    def _step(
        self, tensordict: TensorDictBase, step: int, generator: torch.Generator | None
    ) -> TensorDictBase:
        tensordict = self._at(tensordict, step)
        with naming_step(f"at step {step} (time {self.times[step]:.4g})"):
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

    def _spent(self, meter: Meter) -> Cost:
        self._run(self._dry_start(), torch.Generator().manual_seed(0))
        return meter.total

    def _shown_step(self) -> tuple[list[Group], TensorDictBase]:
        guided = (k for k in range(self.steps) if self.guides(self.times[k]))
        step = next(guided, 0)
        return self.groups(step), self._at(self._dry_start(), step)

    def _about(self) -> str:
        when = f", guided from t = {self.nodes.t_min:g}" if self.nodes.t_min > 0 else ""
        steps, particles = counted(self.steps, "step"), counted(self.particles, "particle")
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
