"""A step of flow matching by `Trainer`, against the same step written by hand in plain torch.

    python scripts/bench/training_step.py [--threads 2]

Same network, batch, optimizer, clipping and weight average. What peers offer for this is the pair
on the path; they are timed where they are installed: torchcfm and flow_matching.
"""

import argparse
import copy

import torch
from page import write_page
from side_by_side import compare
from tensordict import TensorDict
from torch import nn

from alignflow.distillation import FlowMapLoss
from alignflow.policies import MLP, DiT, FlowMapPolicy
from alignflow.training import Trainer


def by_trainer(network: nn.Module, data: torch.Tensor):
    policy = FlowMapPolicy(copy.deepcopy(network), data.shape[1:])
    generator = torch.Generator().manual_seed(0)
    loss = FlowMapLoss(policy, generator=generator)
    batch = TensorDict({"data": data}, batch_size=len(data))
    return Trainer(loss, policy, lambda generator: batch, steps=10_000).train_step


def by_hand(network: nn.Module, x1: torch.Tensor, match=None):
    network = copy.deepcopy(network)
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)

    def pair(x0, x1):
        t = torch.rand(len(x1))
        weight = t.reshape(-1, *[1] * (x1.ndim - 1))
        return t, (1 - weight) * x0 + weight * x1, x1 - x0

    def step():
        t, x, target = (match or pair)(torch.randn_like(x1), x1)
        loss = (network(x, t, t) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(average, parameters, strict=True):
                old.lerp_(new, 0.001)

    return step


def peers():
    """The pair on the path (time, state, velocity) by each library that is installed."""
    found = {}
    try:
        from torchcfm import ConditionalFlowMatcher  # pyright: ignore[reportMissingImports]

        matcher = ConditionalFlowMatcher(sigma=0.0)
        found["torchcfm"] = matcher.sample_location_and_conditional_flow
    except ImportError:
        pass
    try:
        from flow_matching.path import CondOTProbPath  # pyright: ignore[reportMissingImports]

        path = CondOTProbPath()

        def match(x0, x1):
            drawn = path.sample(t=torch.rand(len(x1)), x_0=x0, x_1=x1)
            return drawn.t, drawn.x_t, drawn.dx_t

        found["flow_matching"] = match
    except ImportError:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    cases = {
        "MLP 256 x 3, batch 64": (MLP(2), torch.randn(64, 2)),
        "MLP 256 x 3, batch 1024": (MLP(2), torch.randn(1024, 2)),
        "DiT 192 x 8, batch 64": (DiT(), torch.randn(64, 3, 16, 16)),
    }
    sections = []
    for title, (network, data) in cases.items():
        calls = {"plain torch": by_hand(network, data), "alignflow": by_trainer(network, data)}
        calls |= {name: by_hand(network, data, match) for name, match in peers().items()}
        rounds = 7 if "DiT" in title else 101
        sections.append(compare(title, "plain torch", calls, rounds))
    about = "Calls alternate in one process; a ratio is of one round."
    write_page("training_step", "A training step against plain torch", about, *sections)


if __name__ == "__main__":
    main()
