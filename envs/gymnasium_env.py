"""The denoising process for gymnasium: one episode, or many in step."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .process import DenoisingProcess
from .rendering import picture

__all__ = ["DenoisingGym", "DenoisingVectorGym"]

FPS = 8


class DenoisingGym(gymnasium.Env):
    """One episode of `DenoisingProcess`: `alignflow/Denoising-v0`.

    Observations are a dict of `state` (*E,) and `time` (1,), and `condition` where there is one; an
    action is the next state (*E,), float32; the reward comes with the last step.

    Args:
        policy: A flow map, or the name of a shipped one.
        reward: A reward, any callable, or a name as `alignflow steer --reward` takes it.
        render_mode: "rgb_array" shows the state that is being denoised.
        **process: Of `DenoisingProcess`: steps, grid, condition.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(self, policy: Any, reward: Any, render_mode: str | None = None, **process):
        self.process = _process(policy, reward, process)
        self.observation_space = _observation_space(self.process)
        self.action_space = _action_space(self.process)
        self.render_mode = render_mode
        self._episode = _Episode(self.process, 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._episode.start(_generator(self.np_random))
        return self._observed(), {}

    def step(self, action):
        reward = self._episode.step(np.asarray(action)[None])[0].item()
        return self._observed(), reward, self._episode.ended, False, {}

    def render(self):
        if self.render_mode is None:
            return None
        return picture(self.process, self._episode.state)

    def _observed(self) -> dict[str, np.ndarray]:
        return {key: value[0] for key, value in self._episode.observed().items()}


class DenoisingVectorGym(VectorEnv):
    """Many episodes in step: `gymnasium.make_vec("alignflow/Denoising-v0", num_envs, ...)`.

    All end together; the step after that starts them anew, whatever its actions.

    Args:
        num_envs: Of episodes.
        policy: As in `DenoisingGym`, like the rest.
    """

    metadata = {
        "render_modes": ["rgb_array"],
        "render_fps": FPS,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self, num_envs: int, policy: Any, reward: Any, render_mode: str | None = None, **process
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.process = _process(policy, reward, process)
        self.num_envs = num_envs
        self.single_observation_space = _observation_space(self.process)
        self.single_action_space = _action_space(self.process)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        self._episode = _Episode(self.process, num_envs)

    def reset(self, *, seed: int | list[int | None] | None = None, options=None):
        super().reset(seed=seed[0] if isinstance(seed, list) else seed)
        self._episode.start(_generator(self.np_random))
        return self._episode.observed(), {}

    def step(self, actions):
        if self._episode.ended:
            observed, info = self.reset()
            nothing = np.zeros(self.num_envs, dtype=bool)
            return observed, np.zeros(self.num_envs), nothing, nothing.copy(), info
        reward = self._episode.step(np.asarray(actions)).double().numpy()
        ended = np.full(self.num_envs, self._episode.ended)
        return self._episode.observed(), reward, ended, np.zeros_like(ended), {}

    def render(self):
        if self.render_mode is None:
            return None
        return tuple(picture(self.process, state[None]) for state in self._episode.state)


class _Episode:
    """States of n episodes in step."""

    def __init__(self, process: DenoisingProcess, n: int):
        self.process, self.n = process, n
        self.start(torch.Generator().manual_seed(0))

    @property
    def ended(self) -> bool:
        return self.done == self.process.steps

    def start(self, generator: torch.Generator) -> None:
        self.state, self.condition = self.process.start(self.n, generator)
        self.done = 0

    def step(self, action: np.ndarray) -> torch.Tensor:
        """Take actions (n, *E); the rewards (n,)."""
        if self.ended:
            raise ValueError("an episode is stepped beyond its end: reset it first")
        moved = torch.as_tensor(action).to(self.state)
        self.process.check_action(moved)
        self.state, self.done = moved, self.done + 1
        if not self.ended:
            return torch.zeros(self.n)
        return self.process.finish(self.state, self.condition).cpu()

    def observed(self) -> dict[str, np.ndarray]:
        time = self.process.times[self.done].expand(self.n, 1)
        found = {"state": self.state, "time": time}
        if self.condition is not None:
            found["condition"] = self.condition
        return {key: value.detach().cpu().numpy().copy() for key, value in found.items()}


def _process(policy: Any, reward: Any, options: dict[str, Any]) -> DenoisingProcess:
    if isinstance(policy, str):
        import alignflow

        policy = alignflow.load(policy)
    if isinstance(reward, str):
        from alignflow.pipeline import find_reward

        reward = find_reward(reward)
    return DenoisingProcess(policy, reward, **options)


def _observation_space(process: DenoisingProcess) -> spaces.Dict:
    found: dict[str, spaces.Space] = {
        "state": _action_space(process),
        "time": spaces.Box(0.0, 1.0, (1,), np.float32),
    }
    if process.conditions is not None:
        kind = process.conditions.numpy().dtype
        whole = np.issubdtype(kind, np.integer)
        low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if whole else (-np.inf, np.inf)
        found["condition"] = spaces.Box(low, high, tuple(process.conditions.shape[1:]), kind.type)
    return spaces.Dict(found)


def _action_space(process: DenoisingProcess) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, tuple(process.policy.event_shape), np.float32)


def _generator(random: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(random.integers(2**62)))
