"""The denoising process: initial states, times and the final reward."""

from typing import Any

import torch
from torch import Tensor

from alignflow import checks
from alignflow.conditions import as_rows, draw_rows
from alignflow.draws import uniform
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.interpolants import check_grid, uniform_grid
from alignflow.reward_module import as_reward

__all__ = ["DenoisingProcess"]


class DenoisingProcess:
    """The Markov decision process behind the environments of this folder.

    A state is x at one of the times of a grid from 0 to 1, the first one noise. An action is the
    next state, whatever it is. The state at time 1 has the reward; those before it have none.

    Args:
        policy: The flow map that denoises; it also draws the noise and decodes final states.
        reward: Of the final state; any reward, or any callable as a black box.
        steps: Actions of an episode, evenly spaced in time.
        grid: Their times in place of these, increasing from 0 to 1.
        condition: One for all episodes, or several, one of them drawn for each: a tensor (C, ...),
            texts, or any other rows.
        jitter: Whether the inner times of each episode move together, by up to half a gap, so that
            episodes meet all times.
    """

    def __init__(
        self,
        policy: FlowMap,
        reward: Any,
        steps: int = 8,
        grid: Tensor | None = None,
        condition: Any = None,
        jitter: bool = False,
    ):
        check_flow_map("policy", policy)
        self.policy, self.reward = policy, as_reward(reward)
        times = uniform_grid(checks.count("steps", steps)) if grid is None else _grid(grid)
        if times[0] != 0 or times[-1] != 1:
            raise ValueError(
                "grid must run from 0 to 1: an episode goes from time 0 to time 1, "
                f"got {times.tolist()}"
            )
        self.times = times.to(self.dtype)
        self.jitter, self.conditions = checks.flag("jitter", jitter), as_rows(condition)

    @property
    def steps(self) -> int:
        """Actions of an episode."""
        return len(self.times) - 1

    @property
    def dtype(self) -> torch.dtype:
        """Of states, actions and times: the policy's."""
        return self.policy.dtype

    @property
    def reward_dtype(self) -> torch.dtype:
        """Of rewards: the same, but never less than float32."""
        return torch.promote_types(self.dtype, torch.float32)

    def start(self, n: int, generator: torch.Generator) -> tuple[Tensor, Any]:
        """Noise (n, *E) and n rows of conditions."""
        state = self.policy.noise(n, generator)
        return state, draw_rows(self.conditions, n, generator, state.device)

    def shifts(self, n: int, generator: torch.Generator) -> Tensor:
        """Of the inner times of episodes, in gaps, (n,)."""
        if not self.jitter:
            return torch.zeros(n, dtype=self.dtype, device=generator.device)
        return uniform((n,), generator, self.dtype) - 0.5

    def time(self, step: Tensor, shift: Tensor) -> Tensor:
        """Times of states, from the steps taken and the episodes' shifts, both (n,)."""
        times = self.times.to(step.device)
        if not self.jitter:
            return times[step]
        inner = (step > 0) & (step < self.steps)
        # towards the neighbor on that side
        other = times[(step + shift.sign().long()).clamp(0, self.steps)]
        moved = torch.lerp(times[step], other, shift.abs())
        return torch.where(inner, moved, times[step])

    @torch.no_grad()
    def finish(self, state: Tensor, condition: Any) -> Tensor:
        """Rewards (n,) of ends (n, *E).

        Raises:
            RewardError: If the reward fails.
        """
        return self.reward.score(state, condition, self.policy.decode)

    def check_action(self, action: Tensor, n: int) -> None:
        """Refuse actions that are no states (n, *E)."""
        if action.shape[1:] != self.policy.event_shape:
            raise ValueError(
                f"an action is the next state, of shape {tuple(self.policy.event_shape)}, "
                f"got {tuple(action.shape[1:])}"
            )
        if len(action) != n:
            raise ValueError(f"{n} episodes take {n} actions, got {len(action)}")
        finite = torch.isfinite(action)
        if not finite.all():
            lost = len(action) - int(finite.flatten(1).all(1).sum())
            raise ValueError(
                f"{lost} of {len(action)} actions hold NaN or infinity: an action is the next state"
            )


def _grid(grid: Any) -> Tensor:
    try:
        times = torch.as_tensor(grid, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"grid must be increasing times, got {checks.shown(grid)}") from error
    return check_grid(times)
