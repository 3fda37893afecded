r"""Policy gradient on the tokens that a jump draws: the reward is only scored, never followed.

.. math:: \max_\theta\; \mathbb{E}_{x_s}\Big[\lambda\, \mathbb{E}_{k \sim \delta_\theta}\, r(k)
    - \kappa\, \mathrm{KL}\big(\delta_\theta \,\|\, \delta\big)\Big], \qquad
    \delta_\theta = \mathrm{softmax}\, z_{s,1}(x_s), \quad x_s = X_{0,s}(x_0)

delta are the tokens that the base's jump from x_s to the end predicts, each drawn on its own. The
gradient of the mean reward is that of log-probabilities, each times how much better its draw is
than the others of the same state, which share one forward pass; that of the KL is exact.

At each state and kappa = 1 the optimum is the distribution of independent tokens that is nearest in
KL to delta e^{lambda r}: for a reward that is a sum over positions, delta_l e^{lambda r_l}
normalized. It is not the tilt of the model: the noise stays as frequent as it is, and independent
tokens cannot trade one for another. So a strength does less here than in a tilt, which a smaller
kappa makes up for; and what it does, it does to the few-step samples themselves, also where they
are worse than the data that the network was trained on.

Sources: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. 2024
(2402.14740), for RLOO beside PPO.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.objectives import LossModule

from alignflow import checks
from alignflow.conditions import repeat_rows, rows_of
from alignflow.draws import choices
from alignflow.finetuning.problem import Problem
from alignflow.finetuning.tuner import Method, Tuner
from alignflow.precision import accumulation_dtype
from alignflow.settings import option

__all__ = ["RLOO", "leave_one_out"]


@dataclass(frozen=True, kw_only=True)
class RLOO(Method):
    """Policy gradient on the tokens that jumps to the end draw: strings written in few steps."""

    needs_logits = True

    draws: int = option(
        8, "ends of a state, scored and compared with each other", partial(checks.count, least=2)
    )
    kl_weight: float = option(
        1.0,
        "kappa, of the KL to the base's tokens; below 1 where the tilt is missed by far",
        checks.nonnegative,
    )
    map_fraction: float = option(
        0.25, "fraction of the rows whose draws train the other jumps by `rule`", checks.fraction
    )

    def bind(self, problem: Problem) -> "RLOOTuner":
        return RLOOTuner(problem, self)


class RLOOTuner(Tuner):
    """The loss of `RLOO`, over the number of positions."""

    @dataclass
    class _AcceptedKeys(LossModule._AcceptedKeys):
        noise: NestedKey = "noise"
        time: NestedKey = "time"
        condition: NestedKey = "condition"

    def __init__(self, problem: Problem, method: RLOO):
        super().__init__(problem, method, diagonal_fraction=0.0)
        self.draws, self.map_fraction = method.draws, method.map_fraction
        self.kl_weight = method.kl_weight

    @property
    def out_keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The losses, the mean reward of the draws, and the KL to the base's, in nats a state."""
        jumps = ["loss_map"] if self.map_fraction else []
        return ["loss_objective", "loss_kl", *jumps, "reward", "kl"]

    def sample_batch(self, n: int) -> TensorDict:
        """n rows of noise: `noise` (n, *E), the `time` (n,) to jump to, perhaps `condition`."""
        condition = self.draw_condition(n)
        noise = self.policy.noise(n, self.generator)
        # the earlier of two times, for most is open early, and 0 where the jump is the whole path
        time = self.distillation.times.pairs(n, self.generator)[0].to(noise)
        batch = TensorDict({"noise": noise, "time": time}, batch_size=n)
        if condition is not None:
            batch["condition"] = condition
        return self.renamed(batch)

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Losses of rows of noise: their jumps to the times, and ends that are drawn from there."""
        time, condition = self.read(tensordict, "time"), self.read(tensordict, "condition")
        with torch.no_grad():
            noise = self.read(tensordict, "noise")
            state = self.policy.flow_map(noise, torch.zeros_like(time), time, condition)
        log = self._log_probabilities(self.policy, state, time, condition)
        with torch.no_grad():
            base = self._log_probabilities(self.base, state, time, condition)
            tokens = self._draw(log.exp())
            reward = self._score(tokens, condition)
            advantage = leave_one_out(self.tilt.log_weight(reward)).to(log)
        chosen = log[:, None].expand(-1, self.draws, *log.shape[1:]).gather(-1, tokens[..., None])
        kl = (log.exp() * (log - base)).flatten(1).sum(1)
        positions = tokens[0, 0].numel()
        objective = advantage * chosen.flatten(2).sum(2)
        losses: dict[str, Any] = {
            "loss_objective": -objective.mean() / positions,
            "loss_kl": self.kl_weight * kl.mean() / positions,
        }
        rows = round(self.map_fraction * len(state))
        if rows:
            ends = one_hot(tokens[:rows, 0], log.shape[-1]).to(state)
            given = rows_of(condition, slice(rows), len(state))
            jumps = self.distil(ends, given)["loss_map"]
            losses["loss_map"] = self.map_fraction * jumps
        finite = reward[torch.isfinite(reward)]
        told = {"reward": finite.mean() if len(finite) else reward.new_zeros(())}
        return TensorDict({**losses, **told, "kl": kl.detach().mean()})

    def _log_probabilities(self, model, state: Tensor, time: Tensor, condition) -> Tensor:
        """Of the tokens at the end, (N, L, V)."""
        logits = model.prediction.predict(model, state, time, torch.ones_like(time), condition)
        return logits.to(accumulation_dtype(logits)).log_softmax(-1)

    def _draw(self, probabilities: Tensor) -> Tensor:
        """Tokens (N, draws, L)."""
        rows = choices(probabilities.flatten(0, -2), self.draws, self.generator)
        return rows.unflatten(0, probabilities.shape[:-1]).movedim(-1, 1)

    def _score(self, tokens: Tensor, condition) -> Tensor:
        """Rewards (N, draws)."""
        # drawn here, so that they need no check, for which a GPU would wait
        ends = one_hot(tokens.flatten(0, 1), self.policy.event_shape[-1]).to(self.policy.dtype)
        repeated = repeat_rows(condition, self.draws)
        reward = self.reward.score(ends, repeated, self.policy.decode)
        return reward.unflatten(0, tokens.shape[:2])


def leave_one_out(values: Tensor) -> Tensor:
    """Values (N, K) less the mean of the others of their row; 0 for those that are not finite.

    What is not finite counts in no mean, and what is alone in its row is 0.
    """
    counted = torch.isfinite(values)
    number = counted.sum(1, keepdim=True)
    known = torch.where(counted, values, 0.0)
    mean = known.sum(1, keepdim=True) / number.clamp_min(1)
    centered = (known - mean) * number / (number - 1).clamp_min(1)
    return torch.where(counted & (number > 1), centered, 0.0)
