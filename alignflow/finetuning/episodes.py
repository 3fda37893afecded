"""Episodes of a policy as it acts, with what each of their steps was worth."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from alignflow.modes import evaluating
from alignflow.precision import full_precision

from .pool import groups_of

__all__ = ["Episodes", "acting", "law_of", "seeded_rollout", "step_kl"]

WORTH = ("action_log_prob", "advantage", "kl_weight")
ROUNDING = 1e-6  # of rewards: what differs by less is constant


class Episodes(nn.Module):
    r"""Episodes of an environment, drawn and scored anew every so many batches.

    Of each step k: its `advantage`, what came after it beside the mean of its group, the episodes
    of one condition,

    .. math:: A_k = \frac{\lambda r - \sum_{j > k} \mathrm{KL}_j - \text{mean}}{s},

    and 1/s as `kl_weight`, s the standard deviation of the rewards of the group (1 where they are
    all the same). Episodes whose reward was dropped have no advantage and count in no mean.

    What is held is module state and travels with checkpoints, so that a resumed run goes on with
    the same episodes.

    Args:
        environment: With `rollout`, `set_seed` and `steps`, of as many episodes as are held.
        actor: Of the policy.
        base: Actor of the model that is tilted.
        strength: lambda.
        refresh_every: Batches between fresh episodes.
        generator: Source of all randomness.
    """

    age: Tensor
    mean_reward: Tensor

    def __init__(
        self,
        environment: Any,
        actor: Any,
        base: Any,
        strength: float,
        refresh_every: int,
        generator: torch.Generator,
    ):
        super().__init__()
        # in a tuple, so that nothing of it becomes part of this module
        self._given = (environment, actor, base)
        self.strength, self.refresh_every, self.generator = strength, refresh_every, generator
        first = environment.reset()
        state, shape = first["state"], (len(first), environment.steps)
        like: dict[str, Tensor] = {name: state for name in ("state", "action", "base_loc")}
        like |= {name: first[name] for name in ("time", "target_time")}
        like |= {name: state.new_zeros(len(first)) for name in WORTH}
        if "condition" in first:
            like["condition"] = first["condition"]
        for name, value in like.items():
            self.register_buffer(name, value.new_zeros(*shape, *value.shape[1:]))
        self.names = tuple(like)
        self.register_buffer("mean_reward", torch.zeros(()))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def draw(self, n: int) -> TensorDict:
        """n of them, or all, (n, K): state, action, times, `action_log_prob`, the mean `base_loc`
        of the base's step, `advantage`, `kl_weight`, and perhaps `condition`."""
        fresh = self.age % self.refresh_every == 0
        if fresh:
            self.refresh()
        self.age += 1
        held = TensorDict({name: getattr(self, name) for name in self.names}, batch_size=self.shape)
        rows = torch.randperm(self.shape[0], generator=self.generator)[:n]
        drawn: Any = held[rows.to(self.age.device)]
        if fresh:
            # as the loss will ask for it: other rows, or no graph, may be rounded otherwise
            with torch.enable_grad():
                steps = drawn.flatten(0, 1)
                density = law_of(self._given[1], steps).log_prob(steps["action"]).detach()
            drawn["action_log_prob"] = density.unflatten(0, drawn.shape)
        return drawn

    @property
    def shape(self) -> torch.Size:
        """Episodes and their steps."""
        return getattr(self, WORTH[0]).shape

    @torch.no_grad()
    def refresh(self) -> None:
        """Draw and score new ones."""
        environment, actor, base = self._given
        with acting(actor, self.age.device):
            path = seeded_rollout(environment, actor, self._seed(), self._seed())
        own, law = law_of(actor, path), law_of(base, path)
        reward, condition = path["next", "reward"][:, -1, 0], path.get("condition", None)
        groups = groups_of(None if condition is None else condition[:, 0], len(reward))
        groups = groups.to(reward.device)
        advantage, weight = self._worth(reward, step_kl(own.loc, law.loc, own.scale), groups)
        path["base_loc"], path["advantage"], path["kl_weight"] = law.loc, advantage, weight
        for name in self.names:
            getattr(self, name).copy_(path[name])
        self.mean_reward.copy_(reward[torch.isfinite(reward)].mean())

    def _worth(self, reward: Tensor, kl: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.isfinite(reward)
        scaled = torch.where(kept, self.strength * reward, torch.inf)
        least = torch.full_like(scaled, torch.inf).scatter_reduce(0, groups, scaled, "amin")[groups]
        # a mean of equal numbers may be another number, but one of zeros is zero
        above = torch.where(kept, scaled - least, 0.0)
        share = _per_group(groups, kept.to(above)).clamp_min(1 / len(kept))
        mean = _per_group(groups, above) / share
        offset = torch.where(kept, above - mean, 0.0)
        deviation = (_per_group(groups, offset.square()) / share).sqrt()
        varies = deviation > ROUNDING * (1 + (least + mean).abs())
        weight = torch.where(varies, 1 / deviation, 1.0)[:, None]
        after = kl.flip(1).cumsum(1).flip(1) - kl
        gain = torch.where(varies, offset, 0.0)[:, None] - (after - _per_group(groups, after))
        return weight * gain * kept[:, None], weight.expand_as(kl)

    def _seed(self) -> int:
        return int(torch.randint(2**31, (), generator=self.generator))


@contextmanager
def acting(actor: nn.Module, device: torch.device) -> Iterator[None]:
    """In which an actor acts, and is asked how it did: evaluation mode, in its own precision.

    A density is a difference of close numbers over a small spread: with dropout, or in bf16, that
    of an action would be another one each time it is asked for.
    """
    with evaluating(actor), full_precision(device):
        yield


def law_of(actor: Any, steps: Any) -> Any:
    """Of the actions at rows (*B,) of `state`, `time`, `target_time` and perhaps `condition`."""
    asked = steps.select("state", "time", "target_time", "condition", strict=False)
    with acting(actor, asked["state"].device):
        return actor.get_dist(asked)


def seeded_rollout(environment: Any, actor: Any, seed: int, start_seed: int) -> Any:
    """Whole episodes, (N, K): `seed` of the actor's steps, `start_seed` of where they start."""
    # torchrl's actors draw from torch's own generator
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        environment.set_seed(start_seed)
        return environment.rollout(environment.steps, actor, break_when_any_done=False)


def step_kl(mean: Tensor, base: Tensor, spread: Tensor) -> Tensor:
    """Of Gaussians (*B, *E) of one spread (*B,); 0 where there is none."""
    square = (mean - base).square().flatten(spread.ndim).sum(-1)
    return torch.where(spread > 0, square / (2 * spread.clamp_min(1e-12).square()), 0.0)


def _per_group(groups: Tensor, values: Tensor) -> Tensor:
    """The mean over a row's group, of values (N, ...)."""
    count = torch.bincount(groups).to(values)
    total = values.new_zeros(len(count), *values.shape[1:]).index_add_(0, groups, values)
    return (total / count.reshape(-1, *[1] * (values.ndim - 1)))[groups]
