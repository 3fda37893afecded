"""Episodes of the denoising environment with its own actor, against a plain loop of the same math.

python scripts/bench/environment.py [--threads 1]
"""

import argparse

import torch
from page import write_page
from side_by_side import compare
from torchrl.envs.utils import set_exploration_type

from alignflow.envs import DenoisingEnv, denoising_actor
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import ring_reward

STEPS = 16
BATCHES = (64, 1024, 8192)


def by_hand(network: torch.nn.Module, batch: int):
    """The memoryless SDE in plain torch, with the log-density of each step."""
    reward = ring_reward().function

    @torch.no_grad()
    def episode():
        x, log_prob = torch.randn(batch, 2), None
        for k in range(STEPS):
            s, t = k / STEPS, (k + 1) / STEPS
            time = torch.full((batch,), s)
            velocity = network(x, time, time)
            spread = ((1 - s) ** 2 - (s / t * (1 - t)) ** 2) ** 0.5 * (1 - t) / (1 - s)
            rest = max((1 - t) ** 2 - spread**2, 0.0) ** 0.5
            mean = t * (x + (1 - s) * velocity) + rest * (x - s * velocity)
            noise = torch.randn_like(x)
            x = mean + spread * noise
            if not torch.isfinite(x).all():
                raise ValueError("an action holds NaN or infinity")
            log_prob = -noise.square().sum(1) / 2
        return reward(x), log_prob

    return episode


def by_environment(network: torch.nn.Module, batch: int):
    policy = FlowMapPolicy(network, (2,))
    env = DenoisingEnv(policy, ring_reward(), STEPS, num_envs=batch)
    actor = denoising_actor(policy)

    @torch.no_grad()
    def episode():
        with set_exploration_type("random"):
            return env.rollout(STEPS, actor, break_when_any_done=False)

    return episode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    network = MLP(2)
    sections = []
    for batch in BATCHES:
        calls = {
            "plain torch": by_hand(network, batch),
            "alignflow": by_environment(network, batch),
        }
        title = f"MLP 256 x 3, {batch:,} episodes of {STEPS} steps"
        sections.append(compare(title, "plain torch", calls, 41))
    about = "Calls alternate in one process; a ratio is of one round."
    write_page("environment", "The denoising environment against a plain loop", about, *sections)


if __name__ == "__main__":
    main()
