"""Train the shipped avatars model. Kill it when you like: run again, it goes on where it was."""

import argparse
import time
from pathlib import Path

import torch

from alignflow.distillation import PSD, FlowMapLoss, UniformTimes
from alignflow.policies import FlowMapPolicy
from alignflow.policies.networks import DiT
from alignflow.targets.avatars import avatars
from alignflow.training import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=14_000)
    parser.add_argument("--folder", type=Path, default=Path("outputs/train_avatars"))
    arguments = parser.parse_args()

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    data = avatars()
    policy = FlowMapPolicy(DiT(), data.event_shape, decode="image")
    loss = FlowMapLoss(
        policy, PSD(), diagonal_fraction=0.7, times=UniformTimes(boundary=0.1), generator=generator
    )
    start = time.time()
    trainer = Trainer(
        loss,
        policy,
        lambda generator: data.sample(64, generator),
        steps=arguments.steps,
        learning_rate=1e-3,
        warmup=200,
        decay=0.3,
        ema_decay=0.999,
        precision="bf16",
        generator=generator,
        folder=arguments.folder,
        checkpoint_every=500,
        progress=lambda step, steps, metrics: print(
            f"{step}/{steps} {time.time() - start:.0f}s",
            {k: round(v, 4) for k, v in metrics.items()},
            flush=True,
        ),
    )
    policy.module.compile()
    trainer.run().save(arguments.folder / "model")


if __name__ == "__main__":
    main()
