r"""The rule by which a chain accepts: Metropolis, with one proposal or the best weighed of several.

Of K independent proposals z_i with weights w_i one is chosen by its weight, and accepted with

.. math:: \min\Big(1, \frac{\sum_i w_i}{\sum_i w_i - w_j + w}\Big), \qquad w = e^{\lambda r(x)}

where j is the chosen one and w the weight of the current sample. For K = 1 that is the rule of
Metropolis, min(1, e^{lambda (r(z) - r(x))}).

Source: multiple-try Metropolis (Liu, Liang and Wong 2000) with independent proposals, whose
reference points are the proposals themselves.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from alignflow import draws
from alignflow.graph import Node
from alignflow.interpolants import expand_time
from alignflow.tilt import Tilt

__all__ = ["Acceptance", "SourceAcceptance", "acceptance_log_ratio", "strength_of_rows"]


def acceptance_log_ratio(proposed: Tensor, chosen: Tensor, current: Tensor) -> Tensor:
    """Log of the ratio by which the chosen proposal is accepted, (B,).

    Args:
        proposed: Log-weights of the proposals, (B, K).
        chosen: Index of one, (B,).
        current: Log-weights of the current samples, (B,); from one of -inf any move is accepted.
    """
    others = proposed.scatter(1, chosen.unsqueeze(1), current.unsqueeze(1))
    ratio = proposed.logsumexp(1) - others.logsumexp(1)
    return torch.where(current == -torch.inf, torch.inf, ratio)


def strength_of_rows(log_weight: Tensor, fraction: Tensor) -> Tensor:
    """Log-weights (B, ...) at a fraction (B,) of the strength; -inf stays, at 0 too."""
    scaled = expand_time(fraction, log_weight) * log_weight
    return torch.where(log_weight == -torch.inf, log_weight, scaled)


class Acceptance(Node):
    """Accepts one of the endpoints as the chain's next sample, or keeps the current one.

    Args:
        tilt: Weighs the samples.
    """

    reads = (
        "sample",
        "reward",
        "endpoint",
        "endpoint_reward",
        "tilt_fraction",
        "choice_noise",
        "acceptance_noise",
    )
    optional = ("endpoint_log_weight", "log_ratio")
    writes = ("state", "reward", "time", "accepted", "chance")
    noise = ("choice_noise", "acceptance_noise")
    whole_batch = True

    def __init__(self, tilt: Tilt):
        super().__init__()
        self.tilt = tilt

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        rewards = self.read(tensordict, "endpoint_reward")
        place = {"dtype": torch.float64, "device": rewards.device}
        self.write(
            tensordict,
            choice_noise=draws.uniform(rewards.shape, generator, **place),
            acceptance_noise=draws.uniform(rewards.shape[:1], generator, **place),
        )

    def forward(self, tensordict):
        current, proposed = self.log_weights(tensordict)
        # by Gumbel's trick; where no proposal has any weight, the first
        gumbel = -(-self.read(tensordict, "choice_noise").log()).log()
        chosen = (proposed + gumbel).argmax(1)
        log_ratio = acceptance_log_ratio(proposed, chosen, current)
        correction = self.read(tensordict, "log_ratio")
        if correction is not None:
            log_ratio = log_ratio + correction
        chance = log_ratio.exp().clamp(max=1).nan_to_num(0.0)
        accepted = self.read(tensordict, "acceptance_noise") < chance
        return self.moved(self.write(tensordict, chance=chance), accepted, chosen)

    def log_weights(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor]:
        """Of the current samples (B,) and of the proposals (B, K), in float64."""
        fraction = self.read(tensordict, "tilt_fraction").double()
        rewards = self.read(tensordict, "reward"), self.read(tensordict, "endpoint_reward")
        current, proposed = (
            strength_of_rows(self.tilt.log_weight(reward).double(), fraction) for reward in rewards
        )
        weight = self.read(tensordict, "endpoint_log_weight")
        if weight is not None:
            # with mean 1, as weights of draws of the posterior itself
            mean = weight.double().logsumexp(1, keepdim=True) - torch.tensor(weight.shape[1]).log()
            proposed = proposed + weight.double() - mean
        return current, proposed

    def moved(self, tensordict: TensorDictBase, accepted: Tensor, chosen: Tensor) -> TensorDictBase:
        """Write the chosen endpoints where they are accepted."""
        rows = torch.arange(len(chosen), device=chosen.device)
        sample, reward = self.read(tensordict, "sample"), self.read(tensordict, "reward")
        endpoint = self.read(tensordict, "endpoint")[rows, chosen]
        rewards = self.read(tensordict, "endpoint_reward")[rows, chosen]
        return self.write(
            tensordict,
            state=torch.where(expand_time(accepted, sample), endpoint, sample),
            reward=torch.where(accepted, rewards, reward),
            time=sample.new_ones(len(sample)),
            accepted=accepted,
        )

    def extra_repr(self) -> str:
        return f"strength={self.tilt.strength:g}"


class SourceAcceptance(Acceptance):
    """The same of a sample together with the noise that the flow map carries to it."""

    reads = (*Acceptance.reads, "state", "source")
    optional = (*Acceptance.optional, "source_gradient", "value_gradient")
    writes = (*Acceptance.writes, "source")

    def moved(self, tensordict, accepted, chosen):
        wide = expand_time(accepted, self.read(tensordict, "source"))
        pairs = {"source": "state", "source_gradient": "value_gradient"}
        values = {
            key: torch.where(wide, self.read(tensordict, new), self.read(tensordict, key))
            for key, new in pairs.items()
            if self.read(tensordict, key) is not None
        }
        return super().moved(self.write(tensordict, **values), accepted, chosen)
