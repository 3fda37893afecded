"""The steerer of a chain: a sample of the base moved from sample to sample, the model frozen."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import checks
from alignflow.cost import Cost, Meter
from alignflow.flow_map import FlowMap
from alignflow.reward_module import RewardError
from alignflow.tilt import Tilt

from ..base_steerer import BaseSteerer, Callback, check_callback, counted
from ..execution import naming_step, run_group
from ..samples import Samples, choose_rows, collect
from ..step import Group, check_keys
from .nodes import ChainNodes

__all__ = ["ChainSteerer"]

GIVEN = ("state", "time", "condition", "reward", "source", "tilt_fraction", "step", "progress")


class ChainSteerer(BaseSteerer):
    """A frozen model and the graph of a chain's step; `sample` runs it so many times.

    Args:
        policy: The model. Its parameters get no gradients, and it runs in evaluation mode.
        tilt: What the samples are steered to.
        build: A callable `(model, tilt) -> ChainNodes`, such as `recipe.nodes`; calls of the model
            and the reward that it is given are counted.
        steps: Of the chain.
        guidance: Of classifier-free guidance; 1 is the conditional model itself.
        micro_batch_size: Rows (particles of all systems) that go through the model at a time; all
            by default. The result does not depend on it, but for a reward with on_invalid="worst",
            whose worst is then that of the micro-batch.
        title: First line of the printed graph.

    Raises:
        ValueError: If a node lacks a key.
    """

    nodes: ChainNodes

    def __init__(
        self,
        policy: FlowMap,
        tilt: Tilt,
        build: Callable[[FlowMap, Tilt], ChainNodes],
        steps: int,
        *,
        guidance: float = 1.0,
        micro_batch_size: int | None = None,
        title: str = "",
    ):
        super().__init__(
            policy, tilt, guidance=guidance, micro_batch_size=micro_batch_size, title=title
        )
        self.nodes = build(self.model, self.metered_tilt)
        self._steps = checks.count("steps", steps)
        check_keys(self.groups(0), (*GIVEN, *self.nodes.carries))

    @property
    def steps(self) -> int:
        """Steps of the chain."""
        return self._steps

    @property
    def base_steps(self) -> int:
        """Jumps of the flow map from noise to the first sample."""
        return self.nodes.first.jumps

    def groups(self, step: int) -> list[Group]:
        """The nodes of a step, in the order in which they run."""
        return [*self.nodes.before, *self.nodes.attempt, *self.nodes.after]

    def sample(
        self,
        n: int,
        condition=None,
        generator: torch.Generator | int | None = None,
        callback: Callback | None = None,
        return_trajectory: bool = False,
        return_chain: bool = False,
    ) -> Samples:
        """Run n independent systems of M particles, each from a sample of the base.

        Args:
            n: Number of systems.
            condition: One for all systems (a number, a tensor of one row), or n of them (a tensor
                or TensorDict of n rows).
            generator: Source of all randomness, or its seed.
            callback: Called after each step with its index and the flat batch (n M rows, particles
                of a system side by side): `state`, `reward`, `accepted`, and what the step wrote.
            return_trajectory: Keep the path of each returned sample: of a chain, the chain.
            return_chain: Keep the chain of each returned sample with its rewards and acceptances;
                that of a particle that was resampled goes through its ancestors.

        Returns:
            A TensorDict of `state` (n, *E) and `reward` (n,), the last sample of each chain;
            `particles`, with `state` (n, M, *E), `reward` and `log_weight` (n, M), where replicas
            at lower strengths than the tilt's have no weight, and tempered particles, all of them
            samples of the tilt, have equal ones once the strength is whole; and what one system
            cost, counted, a mean where it differs: `nfe`, `vjps`, `reward_calls`, `reward_vjps`
            (scalars). With `return_chain`, also `chain` (n, steps + 1, *E), from the sample of the
            base on, `chain_reward` (n, steps + 1) and `chain_accepted` (n, steps); with
            `return_trajectory`, also `trajectory`, the same states.

        Raises:
            RewardError: If the reward fails; it names the reward, the step and the samples.
        """
        n, generator = checks.count("n", n), checks.as_generator(generator)
        checks.flag("return_trajectory", return_trajectory)
        checks.flag("return_chain", return_chain)
        check_callback(callback)
        path: list[dict[str, Tensor]] = []

        def keep(tensordict: TensorDictBase) -> None:
            if return_chain or return_trajectory:
                keys = ("state", "reward", "accepted", "ancestor")
                path.append(dict(tensordict.select(*keys, strict=False).items()))

        with self._sampling() as meter:
            tensordict = self._begin(self._start(n, condition, generator))
            keep(tensordict)
            for step in range(self.steps):
                tensordict = self._step(tensordict, step, generator)
                keep(tensordict)
                if callback is not None:
                    callback(step, tensordict)
            resampler = self.nodes.resampler
            tensordict = resampler.finish(tensordict)
            rows = choose_rows(tensordict, n, resampler, generator)
            out = collect(tensordict, rows, meter.total)
        path = _lines(path, rows)
        if return_trajectory:
            out["trajectory"] = _along(path, "state")
        if return_chain:
            out["chain"], out["chain_reward"] = _along(path, "state"), _along(path, "reward")
            out["chain_accepted"] = _along(path[1:], "accepted")
        return out

    def _begin(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The first samples, of noise."""
        state = tensordict["state"]
        tensordict["time"] = torch.zeros(len(state)).to(state)
        population = self.nodes.population
        fractions = torch.ones(1) if population is None else population.fractions()
        tensordict["tilt_fraction"] = fractions.to(state).repeat(len(state) // self.particles)
        with naming_step("at the start of the chain"):
            for group in self.nodes.start:
                tensordict = run_group(group, tensordict, self.micro_batch_size)
        return tensordict

    def _step(
        self, tensordict: TensorDictBase, step: int, generator: torch.Generator | None
    ) -> TensorDictBase:
        tensordict = self._at(tensordict, step)
        with naming_step(f"at step {step}"):
            for group in self.nodes.before:
                tensordict = run_group(group, tensordict, self.micro_batch_size, generator)
            tensordict = self._attempts(tensordict, generator)
            for group in self.nodes.after:
                tensordict = run_group(group, tensordict, self.micro_batch_size, generator)
        return tensordict

    def _at(self, tensordict: TensorDictBase, step: int) -> TensorDictBase:
        """A batch at the start of a step: samples, and what belongs to them."""
        carried = (*self.nodes.carries, *self.nodes.resampler.carries)
        always = ("state", "condition", "reward", "tilt_fraction", "reach")
        tensordict = tensordict.select(*always, *carried, strict=False)
        fraction = tensordict["tilt_fraction"]
        tensordict["step"] = torch.full_like(fraction, step, dtype=torch.long)
        tensordict["progress"] = torch.full_like(fraction, step / self.steps)
        return tensordict

    def _attempts(
        self, tensordict: TensorDictBase, generator: torch.Generator | None
    ) -> TensorDictBase:
        """A proposal to each row, and others to those that have accepted none, up to `tries`."""
        rows = torch.arange(len(tensordict), device=tensordict["reward"].device)
        parts: list[tuple[Tensor, TensorDictBase]] = []
        for left in reversed(range(self.nodes.tries)):
            tensordict = self._attempt(tensordict, rows, bool(parts), generator)
            accepted = tensordict["accepted"]
            if left == 0 or accepted.all():
                break
            parts.append((rows[accepted], tensordict[accepted]))
            rows, tensordict = rows[~accepted], tensordict[~accepted]
        if not parts:
            return tensordict
        parts.append((rows, tensordict))
        numbers, pieces = zip(*parts, strict=True)
        joined = cast(TensorDictBase, torch.cat(pieces))
        return joined[torch.cat(numbers).argsort()]

    def _attempt(
        self,
        tensordict: TensorDictBase,
        rows: Tensor,
        some: bool,
        generator: torch.Generator | None,
    ) -> TensorDictBase:
        """One proposal to each row; an error says which rows these are, if they are only some."""
        try:
            for group in self.nodes.attempt:
                tensordict = run_group(group, tensordict, self.micro_batch_size, generator)
        except RewardError as error:
            if not some:
                raise
            message = f"{error}, counted among the rows {rows.tolist()}"
            raise type(error)(message) from (error.__cause__ or error)
        return tensordict

    def _spent(self, meter: Meter) -> Cost:
        """Of one try in each step."""
        tensordict = self._begin(self._dry_start())
        start = meter.total
        tensordict = self._at(tensordict, 0)
        for group in self.groups(0):
            tensordict = run_group(group, tensordict, self.micro_batch_size)
        return start + (meter.total - start) * self.steps

    def _shown_step(self) -> tuple[Sequence[Group], TensorDictBase]:
        return self.groups(0), self._at(self._begin(self._dry_start()), 0)

    def _about(self) -> str:
        steps, particles = counted(self.steps, "step"), counted(self.particles, "particle")
        jumps, tries = counted(self.base_steps, "jump"), self.nodes.tries
        often = f", of 1 to {tries} tries each (counted as 1)" if tries > 1 else ""
        return f"{steps} of a chain{often} from a sample of {jumps}; {particles} a system"


def _lines(path: list[dict[str, Tensor]], rows: Tensor) -> list[dict[str, Tensor]]:
    """A path from the first step to these rows of the last one, through their ancestors."""
    lines = []
    for step in reversed(path):
        lines.append({key: value[rows] for key, value in step.items()})
        rows = step["ancestor"][rows] if "ancestor" in step else rows
    return lines[::-1]


def _along(path: list[dict[str, Tensor]], key: str) -> Tensor:
    """Of all steps, (n, steps, ...)."""
    return torch.stack([each[key] for each in path], dim=1)
