"""Memory and time of the losses on logits over large vocabularies, against plain torch.

    python scripts/bench/loss_memory.py [--vocabularies 32000 128000] [--tokens 1024] [--rounds 7]

Each loss is computed and differentiated through a linear head. Memory is the most that torch has
allocated at a time, as its profiler records it, in buffers of [tokens, V] floats: the logits are
one, and each distribution or gradient another. What a loss is given before (noise, the teachers'
logits) is not counted, the weights of the networks neither.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from page import table, write_page
from side_by_side import compare
from tensordict import TensorDict
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from alignflow.cross_entropy import cross_entropy
from alignflow.distillation import PSD, FlowMapLoss
from alignflow.kernels import soft_cross_entropy
from alignflow.policies import FlowMapPolicy
from alignflow.predictions import Prediction
from alignflow.regressions import Regression
from alignflow.simplex import Logits, one_hot_states

WIDTH = 8
STRINGS = 4

Calls = dict[str, Callable[[], object]]


def peak(call: Callable[[], object]) -> int:
    """The most bytes that torch holds at a time during a call, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    profiler: Any = recorded.profiler
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def plain(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(-1)).sum(-1)


def anchor(hidden: Tensor, head: Tensor) -> Calls:
    """Tokens: c = 1."""
    labels = torch.randint(head.shape[1], (len(hidden),))
    weights = torch.tensor([0.0, 0.0, 1.0]).expand(len(hidden), 3)

    def by_torch():
        plain(hidden @ head, one_hot_states(labels, head.shape[1])).mean().backward()

    def by_rows():
        soft_cross_entropy(hidden @ head, None, None, labels, weights).mean().backward()

    return {"plain torch": by_torch, "by rows": by_rows}


def distribution(hidden: Tensor, head: Tensor) -> Calls:
    """A target that the loss makes and gives away, as that of the semigroup."""

    def made():
        return torch.full((len(hidden), head.shape[1]), 1 / head.shape[1])

    def by_torch():
        plain(hidden @ head, made()).mean().backward()

    def by_rows():
        target = made()
        cross_entropy(hidden @ head, target, gradient=target).mean().backward()

    return {"plain torch": by_torch, "by rows": by_rows}


def signed(hidden: Tensor, head: Tensor) -> Calls:
    """ITM: 1 - w of one teacher, all of another, w - 1 of the tokens."""
    size, weight = head.shape[1], 3 * torch.rand(len(hidden), 1)
    a, b = torch.randn(2, len(hidden), size)
    labels = torch.randint(size, (len(hidden),))
    weights = torch.cat([1 - weight, torch.ones_like(weight), weight - 1], 1)

    def by_torch():
        target = weights[:, :1] * a.softmax(-1) + weights[:, 1:2] * b.softmax(-1)
        target = target + weights[:, 2:] * one_hot_states(labels, size)
        plain(hidden @ head, target).mean().backward()

    def by_rows():
        soft_cross_entropy(hidden @ head, a, b, labels, weights).mean().backward()

    return {"plain torch": by_torch, "by rows": by_rows}


class PlainLogits(Logits):
    """Logits whose targets and losses are plain torch, of one-hot states."""

    through = Prediction.through


class Network(nn.Module):
    """Logits of soft tokens through a narrow layer: what is held is the loss's."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.embed, self.head = nn.Linear(vocabulary, WIDTH), nn.Linear(WIDTH, vocabulary)

    def forward(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return self.head(self.embed(x) + s[:, None, None] + t[:, None, None])


def step(tokens: int, vocabulary: int) -> Calls:
    """Anchor and semigroup of a flow map, half the rows each, with noise and states."""
    shape = tokens // STRINGS, vocabulary
    data = torch.randint(vocabulary, (STRINGS, shape[0]))
    policy = FlowMapPolicy(Network(vocabulary), shape, parametrization="simplex")

    def loss_of(prediction: Prediction, regression: Regression | None):
        policy.prediction = prediction
        generator = torch.Generator().manual_seed(0)
        return FlowMapLoss(
            policy, PSD(), diagonal_fraction=0.5, regression=regression, generator=generator
        )

    def run(loss: FlowMapLoss, data: Tensor):
        losses = loss(TensorDict({"data": data}, batch_size=STRINGS))
        (losses["loss_diagonal"] + losses["loss_map"]).backward()

    def regression(prediction, target, s, t, directions=None):
        return plain(prediction, target).mean(1)

    plain_loss, loss = loss_of(PlainLogits(), regression), loss_of(Logits(), None)
    return {
        "plain torch": lambda: run(plain_loss, one_hot_states(data, vocabulary)),
        "by rows": lambda: run(loss, data),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 128_000])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows, sections = [], []
    for size in options.vocabularies:
        hidden = torch.randn(options.tokens, WIDTH)
        head = torch.randn(WIDTH, size, requires_grad=True)
        for title, calls in {
            "tokens": anchor(hidden, head),
            "a distribution": distribution(hidden, head),
            "two teachers and tokens": signed(hidden, head),
            "anchor and semigroup of a step": step(options.tokens, size),
        }.items():
            timed = compare(f"{title}, V = {size:,}", "plain torch", calls, options.rounds)
            sections.append(timed)
            buffers = [peak(call) / (4 * options.tokens * size) for call in calls.values()]
            rows.append([title, f"{size:,}", *(f"{each:.2f}" for each in buffers)])
    head = ["target", "V", "plain torch", "by rows"]
    about = (
        f"{options.tokens:,} tokens, float32. Peak memory in buffers of [tokens, V], of which the "
        "logits are one. The teachers' logits are given, and not counted. A step of a flow map "
        "that learns from itself also holds noise, 1 buffer, and states at three times, half the "
        "rows each, 1.5; making the last of them takes 1 more for a moment, where memory peaks."
    )
    write_page("loss_memory", "Losses over large vocabularies", about, table(head, rows), *sections)


if __name__ == "__main__":
    main()
