"""The denoising process for gymnasium: one episode, or a batch of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from tensordict import TensorDictBase

from alignflow import checks
from alignflow.conditions import as_given, join_rows

from .process import DenoisingProcess
from .rendering import picture

__all__ = ["DenoisingGym", "DenoisingVectorGym"]

FPS = 8
RENDER_MODES = ["rgb_array"]


class DenoisingGym(gymnasium.Env):
    """One episode of `DenoisingProcess`: `alignflow/Denoising-v0`.

    Observations are a dict of `state` (*E,) and `time` (1,), and `condition` where there is one: an
    array, a text, or a dict of such. An
    action is the next state (*E,), of the policy's precision; the reward comes with the last step.

    Args:
        policy: A flow map, or the name of a shipped one.
        reward: A reward, any callable, or a name as `alignflow steer --reward` takes it.
        render_mode: "rgb_array" shows the state that is being denoised.
        **process: Of `DenoisingProcess`: steps, grid, condition, jitter.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": FPS}

    def __init__(self, policy: Any, reward: Any, render_mode: str | None = None, **process):
        self.process = _process(policy, reward, process)
        self.observation_space = _observation_space(self.process)
        self.action_space = _action_space(self.process)
        self.render_mode = _render_mode(render_mode)
        self._episode = _Episode(self.process, 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._episode.start([_generator(self.np_random)])
        return self._observed(), {}

    def step(self, action):
        reward = self._episode.step(np.asarray(action)[None])[0].item()
        return self._observed(), reward, self._episode.ended, False, {}

    def render(self):
        if self.render_mode is None:
            return None
        return picture(self.process, self._episode.state)

    def _observed(self) -> dict[str, Any]:
        return _row(self._episode.observed(), 0)


class DenoisingVectorGym(VectorEnv):
    """A batch of episodes: `gymnasium.make_vec("alignflow/Denoising-v0", num_envs, ...)`.

    All end together; the step after that starts them anew, whatever its actions. Each has its own
    source of randomness: with the seed of a single environment it starts as that does.

    Args:
        num_envs: Of episodes.
        policy: As in `DenoisingGym`, like the rest.
    """

    metadata = {
        "render_modes": RENDER_MODES,
        "render_fps": FPS,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self, num_envs: int, policy: Any, reward: Any, render_mode: str | None = None, **process
    ):
        self.process = _process(policy, reward, process)
        num_envs = self.num_envs = checks.count("num_envs", num_envs)
        self.single_observation_space = _observation_space(self.process)
        self.single_action_space = _action_space(self.process)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = _render_mode(render_mode)
        self._episode = _Episode(self.process, num_envs)
        self._randoms = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(self, *, seed: int | Sequence[int | None] | None = None, options=None):
        """Start anew.

        Args:
            seed: One for each episode, None for one that keeps its generator; or that of the first,
                which the others count on from.
            options: Of nothing.
        """
        for k, given in enumerate(self._seeds(seed)):
            if given is not None:
                self._randoms[k] = seeding.np_random(given)[0]
        self._episode.start([_generator(random) for random in self._randoms])
        return self._episode.observed(), {}

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if not isinstance(seed, Sequence | np.ndarray):
            first = checks.count("seed", seed, least=0)
            return [first + k for k in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"{self.num_envs} episodes take {self.num_envs} seeds, got {len(seed)}"
            )
        return [None if one is None else checks.count("seed", one, least=0) for one in seed]

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
    """The states of n episodes, all at the same step."""

    def __init__(self, process: DenoisingProcess, n: int):
        self.process, self.n = process, n
        self.start([torch.Generator().manual_seed(k) for k in range(n)])

    @property
    def ended(self) -> bool:
        return self.done == self.process.steps

    def start(self, generators: list[torch.Generator]) -> None:
        """By the source of randomness of each."""
        starts = [self.process.start(1, generator) for generator in generators]
        states, conditions = zip(*starts, strict=True)
        self.state = torch.cat(states)
        self.condition = join_rows(conditions)
        self.shift = torch.cat([self.process.shifts(1, generator) for generator in generators])
        self.done = 0

    def step(self, action: np.ndarray) -> torch.Tensor:
        """Take actions (n, *E); the rewards (n,)."""
        if self.ended:
            raise ValueError("an episode is stepped beyond its end: reset it first")
        moved = torch.as_tensor(action).to(self.state)
        self.process.check_action(moved, self.n)
        self.state, self.done = moved, self.done + 1
        if not self.ended:
            return torch.zeros(self.n)
        return self.process.finish(self.state, self.condition).cpu()

    def observed(self) -> dict[str, Any]:
        time = self.process.time(torch.full((self.n,), self.done), self.shift)
        found = {"state": self.state, "time": time[:, None]}
        if self.condition is not None:
            found["condition"] = self.condition
        return {key: _array(value) for key, value in found.items()}


def _process(policy: Any, reward: Any, options: dict[str, Any]) -> DenoisingProcess:
    if isinstance(policy, str):
        import alignflow

        policy = alignflow.load(policy)
    if isinstance(reward, str):
        from alignflow.pipeline import find_reward

        reward = find_reward(reward)
    return DenoisingProcess(policy, reward, **options)


def _render_mode(mode: str | None) -> str | None:
    return None if mode is None else checks.choice("render_mode", mode, RENDER_MODES)


def _observation_space(process: DenoisingProcess) -> spaces.Dict:
    found: dict[str, spaces.Space] = {
        "state": _action_space(process),
        "time": spaces.Box(0.0, 1.0, (1,), _kind(process)),
    }
    if process.conditions is not None:
        found["condition"] = _condition_space(process.conditions)
    return spaces.Dict(found)


def _condition_space(rows: Any) -> spaces.Space:
    """Where conditions lie, of which these are some."""
    if isinstance(rows, Mapping | TensorDictBase):
        return spaces.Dict({str(k): _condition_space(as_given(v)) for k, v in rows.items()})
    if isinstance(rows, torch.Tensor):
        kind = _array(rows).dtype
        whole = np.issubdtype(kind, np.integer)
        low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if whole else (-np.inf, np.inf)
        return spaces.Box(low, high, tuple(rows.shape[1:]), kind.type)
    if all(isinstance(row, str) for row in rows):
        longest, letters = max(map(len, rows)), "".join(sorted(set("".join(rows))))
        return spaces.Text(max(longest, 1), min_length=0, charset=letters or " ")
    raise ValueError(
        "gymnasium observes conditions that are numbers, texts, or mappings of such, "
        f"got {checks.shown(rows[0])}"
    )


def _action_space(process: DenoisingProcess) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, tuple(process.policy.event_shape), _kind(process))


def _kind(process: DenoisingProcess) -> Any:
    """Of arrays of states and times."""
    return _array(torch.zeros(0, dtype=process.dtype)).dtype.type


def _array(value: Any) -> Any:
    """What gymnasium observes of rows: arrays, tuples of texts, dicts of such."""
    value = as_given(value)
    if isinstance(value, Mapping | TensorDictBase):
        return {str(key): _array(field) for key, field in value.items()}
    if not isinstance(value, torch.Tensor):
        return tuple(value)
    # there is no bfloat16 in NumPy
    value = value.float() if value.dtype == torch.bfloat16 else value
    return value.detach().cpu().numpy().copy()


def _row(rows: Any, number: int) -> Any:
    """One of the rows that are observed."""
    if isinstance(rows, dict):
        return {key: _row(field, number) for key, field in rows.items()}
    return rows[number]


def _generator(random: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(random.integers(2**62)))
