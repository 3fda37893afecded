"""Episodes of a policy as it acts, with the advantage of each of their steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from alignflow.conditions import as_given, count_rows, group_rows, join_rows, take_rows
from alignflow.draws import integers
from alignflow.metrics.groups import group_means, groups_of
from alignflow.modes import evaluating
from alignflow.modules import set_unregistered
from alignflow.precision import full_precision
from alignflow.tilt import Tilt
from alignflow.values import ValueFunction

from .critic import promised

__all__ = ["Episodes", "acting", "action_distribution", "seeded_rollout", "step_kl"]

PER_STEP = ("action_log_prob", "advantage", "kl_weight")
ROUNDING = 1e-6  # of rewards: what differs by less is constant


class Episodes(nn.Module):
    r"""Episodes of an environment, drawn and scored anew every so many batches.

    Of each step k: its `advantage`, and the `kl_weight` of its KL to the base. The episodes of one
    condition are a group. By the credit "path",

    .. math:: A_k = \frac{\lambda r - \ell - \text{mean of the others}}{s}, \qquad
        \ell = \sum_k \log \frac{\pi_\theta}{\pi}(x_{k+1} | x_k),

    and the weight is 0, for the gradient of the KL is in it already. By the credit "return",

    .. math:: A_k = \frac{\lambda r - \sum_{j > k} \mathrm{KL}_j - \text{mean}}{s},

    and the weight is 1/s. With a critic V the means are those of what is left of the return beyond
    V(x_k): by the credit "path" of lambda r less the log-ratios from step k on, of which those
    before x_k say nothing. The scale s is 1, or the standard deviation of the rewards of the group
    (1 where they are all the same). Episodes whose reward was dropped have no advantage and count
    in no mean.

    What it holds is module state and travels with checkpoints, so that a resumed run goes on with
    the same episodes.

    Args:
        environment: With `rollout`, `set_seed` and `steps`, of as many episodes as are stored.
        actor: Of the policy.
        base: Actor of the model that is tilted.
        tilt: Whose strength scales the rewards.
        credit: "path" or "return".
        scale: "one" or "std".
        refresh_every: Batches between fresh episodes.
        generator: Source of all randomness.
        condition: Conditions of the environment, rows (C, ...); None for none.
        critic: V(x, t, strength, condition) of the base; None for none.
    """

    environment: Any
    actor: Any
    base: Any
    tilt: Tilt
    conditions: Any
    critic: ValueFunction | None
    action: Tensor
    age: Tensor
    mean_reward: Tensor

    def __init__(
        self,
        environment: Any,
        actor: Any,
        base: Any,
        tilt: Tilt,
        credit: str,
        scale: str,
        refresh_every: int,
        generator: torch.Generator,
        condition: Any = None,
        critic: ValueFunction | None = None,
    ):
        super().__init__()
        self.credit, self.scale = credit, scale
        set_unregistered(self, environment=environment, actor=actor, base=base, tilt=tilt)
        set_unregistered(self, conditions=condition, critic=critic)
        self.refresh_every, self.generator = refresh_every, generator
        first = environment.reset()
        state, shape = first["state"], (len(first), environment.steps)
        like: dict[str, Tensor] = {name: state for name in ("state", "action", "base_loc")}
        like |= {name: first[name] for name in ("time", "target_time")}
        like |= {name: state.new_zeros(len(first)) for name in PER_STEP}
        if isinstance(condition, Tensor):
            like["condition"] = first["condition"]
        elif condition is not None:
            # texts and the like, by their number
            like["condition_row"] = torch.zeros(len(first), dtype=torch.int64)
        for name, value in like.items():
            self.register_buffer(name, value.new_zeros(*shape, *value.shape[1:]))
        self.names = tuple(like)
        self.register_buffer("mean_reward", torch.zeros((), device=state.device))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def draw(self, n: int) -> TensorDict:
        """n of them, or all, (n, K): state, action, times, `action_log_prob`, the mean `base_loc`
        of the base's step, `advantage`, `kl_weight`, and perhaps `condition`."""
        fresh = self.age % self.refresh_every == 0
        if fresh:
            self.refresh()
        self.age += 1
        every = TensorDict({name: getattr(self, name) for name in self.names}, self.shape)
        source = self.generator.device
        rows = torch.randperm(self.shape[0], generator=self.generator, device=source)[:n]
        drawn: Any = every[rows.to(self.action.device)]
        if "condition_row" in drawn:
            drawn = self._with_conditions(drawn)
        if fresh:
            # as the loss will ask for it: other rows, or no graph, may be rounded otherwise
            with torch.enable_grad():
                steps = drawn.flatten(0, 1)
                found = action_distribution(self.actor, steps).log_prob(steps["action"]).detach()
            drawn["action_log_prob"] = found.unflatten(0, drawn.shape)
        return drawn

    def _with_conditions(self, drawn: TensorDict) -> TensorDict:
        flat: Any = drawn.flatten(0, 1)
        flat["condition"] = take_rows(self.conditions, flat.pop("condition_row"))
        return flat.unflatten(0, drawn.shape)

    @property
    def shape(self) -> torch.Size:
        """Episodes and their steps."""
        return self.action.shape[:2]

    @torch.no_grad()
    def refresh(self) -> None:
        """Draw and score new ones."""
        with acting(self.actor, self.action.device):
            path = seeded_rollout(self.environment, self.actor, self._seed(), self._seed())
        model = action_distribution(self.actor, path)
        base = action_distribution(self.base, path)
        reward = path["next", "reward"][:, -1, 0]
        condition = as_given(path[:, 0].get("condition", None))
        groups = groups_of(condition, len(reward)).to(reward.device)
        kl = step_kl(model.loc, base.loc, model.scale)
        path["base_loc"] = base.loc
        value = None if self.critic is None else promised(self.critic, path, self.tilt.strength)
        if self.credit == "path":
            action = path["action"]
            log_ratio = model.log_prob(action) - base.log_prob(action)
            spent = log_ratio.sum(1, keepdim=True) if value is None else value + _onwards(log_ratio)
            path["advantage"] = self._path_advantages(reward, spent, groups).expand_as(kl)
            path["kl_weight"] = torch.zeros_like(kl)
        else:
            path["advantage"], path["kl_weight"] = self._advantages(reward, kl, groups, value)
        if "condition_row" in self.names:
            rows = self._rows_of(condition, len(reward))
            path["condition_row"] = rows[:, None].expand(self.shape).to(reward.device)
        for name in self.names:
            getattr(self, name).copy_(path[name])
        self.mean_reward.copy_(reward[torch.isfinite(reward)].mean())

    def _rows_of(self, condition: Any, n: int) -> Tensor:
        """The number of each of n conditions among those of the environment, (n,)."""
        count = count_rows(self.conditions) or 1
        groups = group_rows(join_rows([self.conditions, condition]), count + n)
        first = torch.zeros(len(groups), dtype=torch.int64)
        first[groups[:count].flip(0)] = torch.arange(count - 1, -1, -1)
        return first[groups[count:]]

    def _advantages(
        self, reward: Tensor, kl: Tensor, groups: Tensor, value: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """By the credit "return", of KLs and perhaps values (N, K): advantages and weights of the
        KLs, (N, K)."""
        after = _onwards(kl) - kl
        after = after if value is None else after + value
        offset, weight = self._offset(reward, groups)
        advantage = weight * (offset - (after - group_means(after, groups)))
        return advantage * torch.isfinite(reward)[:, None], weight.expand_as(kl)

    def _path_advantages(self, reward: Tensor, spent: Tensor, groups: Tensor) -> Tensor:
        """By the credit "path", of what is taken from the rewards (N, K), as many: log-ratios."""
        offset, weight = self._offset(reward, groups)
        counted = torch.isfinite(reward).to(spent)[:, None]
        number = group_means(counted, groups) * torch.bincount(groups)[groups][:, None]
        mean = group_means(counted * spent, groups) / group_means(counted, groups)
        centered = weight * (offset - (spent - mean))
        # without the episode itself, the mean is further off by this
        return (centered * number / (number - 1).clamp_min(1)).where(counted > 0, 0.0)

    def _offset(self, reward: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """strength r less the mean of its group, and one over the scale, (N, 1)."""
        finite = torch.isfinite(reward)
        scaled = torch.where(finite, self.tilt.log_weight(reward), torch.inf)
        least = torch.full_like(scaled, torch.inf).scatter_reduce(0, groups, scaled, "amin")[groups]
        # a mean of equal numbers may be another number, but one of zeros is zero
        above = torch.where(finite, scaled - least, 0.0)
        fraction = group_means(finite.to(above), groups).clamp_min(1 / len(finite))
        mean = group_means(above, groups) / fraction
        offset = torch.where(finite, above - mean, 0.0)
        std = (group_means(offset.square(), groups) / fraction).sqrt()
        varies = std > ROUNDING * (1 + (least + mean).abs())
        weight = torch.where(varies & (self.scale == "std"), 1 / std, 1.0)
        return torch.where(varies, offset, 0.0)[:, None], weight[:, None]

    def _seed(self) -> int:
        return int(integers(2**31, (), self.generator))


@contextmanager
def acting(actor: nn.Module, device: torch.device) -> Iterator[None]:
    """In which an actor acts and gives its log-densities: evaluation mode, in its own precision.

    A log-density is a difference of close numbers over a small standard deviation: with dropout,
    or in bf16, that of one action would differ from call to call.
    """
    with evaluating(actor), full_precision(device):
        yield


def action_distribution(actor: Any, steps: Any) -> Any:
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


def _onwards(steps: Tensor) -> Tensor:
    """Sums (N, K) of what steps (N, K) have, from each of them on."""
    return steps.flip(1).cumsum(1).flip(1)


def step_kl(mean: Tensor, base: Tensor, std: Tensor) -> Tensor:
    """KL between isotropic Gaussians (*B, *E) of one std (*B,); 0 where that is 0."""
    square = (mean - base).square().flatten(std.ndim).sum(-1)
    return torch.where(std > 0, square / (2 * std.clamp_min(1e-12).square()), 0.0)
