"""Train and ship the ring model: about two minutes on one core."""

import torch
from shipping import train_and_ship

from alignflow.metrics import sampling_floor, sliced_wasserstein
from alignflow.policies import FlowMapPolicy
from alignflow.targets import ring

SAMPLES = 8192


def quality(policy: FlowMapPolicy) -> dict[str, str]:
    """Distance to the exact ring as a ratio to that of two exact samples."""
    generator = torch.Generator().manual_seed(1)
    floor = sampling_floor(ring(), SAMPLES, sliced_wasserstein, generator=generator)
    measured = {f"sliced W2 of two exact samples of {SAMPLES}": str(floor)}
    for steps in (1, 2, 4, 8):
        with torch.no_grad():
            samples = policy.sample(SAMPLES, steps=steps, generator=generator)
        distance = sliced_wasserstein(samples, ring().sample(SAMPLES, generator=generator))
        ratio = float(distance) / float(floor)
        measured[f"sliced W2 at {steps} steps, as a ratio to that"] = f"{ratio:.2f}"
    return measured


if __name__ == "__main__":
    train_and_ship("ring", "Eight Gaussians of variance 0.1 on a circle of radius 4.", quality)
