"""Samples of a frozen base with their rewards: all that a value is learned from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import Tensor

from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.conditions import take_rows
from alignflow.draws import integers
from alignflow.flow_map import FlowMap
from alignflow.modes import frozen
from alignflow.reward_module import Reward, RewardError

__all__ = ["ScoredSamples", "draw_scored"]

PART = 1024  # samples that are drawn, scored and saved at once


@dataclass(frozen=True)
class ScoredSamples:
    """Samples with rewards; a reward of -inf is of a sample that was dropped.

    Args:
        states: (N, *E).
        rewards: (N,).
        condition: (N, ...), or None.
    """

    states: Tensor
    rewards: Tensor
    condition: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    @property
    def valid_rewards(self) -> Tensor:
        """Of the samples that were not dropped."""
        return self.rewards[self.rewards > -torch.inf]

    def split(self, n: int) -> "tuple[ScoredSamples, ScoredSamples]":
        """The first n and the others."""
        return self._rows(slice(n)), self._rows(slice(n, None))

    def batch(self, n: int, generator: torch.Generator) -> TensorDict:
        """n of them at random: `data`, `reward` and perhaps `condition`."""
        rows = self._rows(integers(len(self), (n,), generator, self.states.device))
        found = {"data": rows.states, "reward": rows.rewards}
        if rows.condition is not None:
            found["condition"] = rows.condition
        return TensorDict(found, batch_size=n)

    def _rows(self, rows: Tensor | slice) -> "ScoredSamples":
        condition = None if self.condition is None else self.condition[rows]
        return ScoredSamples(self.states[rows], self.rewards[rows], condition)


def draw_scored(
    policy: FlowMap,
    reward: Reward,
    n: int,
    steps: int,
    seed: int,
    condition: Tensor | None = None,
    folder: Path | None = None,
) -> ScoredSamples:
    """Draw and score n samples of a policy; in a folder, what was scored before is not again.

    Args:
        policy: The base.
        reward: Scores the samples.
        n: Number of samples.
        steps: Jumps of a sample.
        seed: Of the noise.
        condition: Rows (C, ...) that samples take in turn; None for none.
        folder: Where parts are saved as they are scored.

    Raises:
        RewardError: If the reward fails, or drops all samples but one.
    """
    parts = []
    for index, start in enumerate(range(0, n, PART)):
        rows = torch.arange(start, min(start + PART, n))
        path = None if folder is None else folder / f"{index:05d}"
        if path is not None and is_saved(path):
            found, _ = load_folder(path, allow_nonfinite=True)
        else:
            given = None if condition is None else take_rows(condition, rows % len(condition))
            found = _part(policy, reward, len(rows), steps, seed + index, given)
            if path is not None:
                save_folder(path, found, {}, allow_nonfinite=True)
        parts.append(found)
    joined = {key: torch.cat([part[key] for part in parts]).to(policy.device) for key in parts[0]}
    drawn = ScoredSamples(joined["state"], joined["reward"], joined.get("condition"))
    if len(drawn.valid_rewards) < 2:
        raise RewardError(f"reward {reward.name!r} drops all but one of {n} samples")
    return drawn


def _part(
    policy: FlowMap, reward: Reward, n: int, steps: int, seed: int, condition: Tensor | None
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    given = None if condition is None else policy.condition_rows(condition, n)
    with frozen(policy, reward), torch.no_grad():
        states = policy.sample(n, steps, condition=given, generator=generator)
        rewards = reward.score(states, given, policy.decode)
    found = {"state": states, "reward": rewards.to(states)}
    return found if given is None else found | {"condition": given}
