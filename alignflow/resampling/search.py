"""Search: all particles go on from the best lookahead."""

import torch

from alignflow import checks

from .resamplers import BestOfN, Resampler, equal_weight

__all__ = ["Search"]

SCOPES = ("system", "particle")


class Search(Resampler):
    """Selects the endpoint of the highest reward, for a transition that renoises it.

    It maximizes reward: what it samples is not the tilt.

    Args:
        particles: M, of each system.
        scope: "system" selects the best of all M K draws for all particles, "particle" the best
            of the K draws of each.

    Source: MFM-Search of Meta Flow Maps (2601.14430), algorithm 4.
    """

    reads = ("endpoint", "endpoint_reward")
    writes = ("endpoint",)
    whole_batch = True

    def __init__(self, particles: int, scope: str = "system"):
        super().__init__()
        self.particles = checks.count("particles", particles)
        self.scope = checks.choice("scope", scope, SCOPES)

    def forward(self, tensordict):
        endpoint, reward = (self.read(tensordict, key) for key in self.reads)
        group = self.particles if self.scope == "system" else 1
        best = reward.reshape(-1, group * reward.shape[1]).argmax(1)
        pooled = endpoint.reshape(-1, group * endpoint.shape[1], *endpoint.shape[2:])
        chosen = pooled[torch.arange(len(pooled), device=best.device), best]
        return self.write(tensordict, endpoint=chosen.repeat_interleave(group, 0).unsqueeze(1))

    def finish(self, tensordict):
        # every particle has been chosen for its reward: they have no weights
        return self.write(tensordict, log_weight=equal_weight(self.read(tensordict, "reward")))

    choose = BestOfN.choose

    def extra_repr(self) -> str:
        return f"scope={self.scope}"
