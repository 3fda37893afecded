"""Progress of a training that is given no place to show it."""

import io
import sys

import pytest

import alignflow as af
from alignflow import progress
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import ring, ring_reward


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def train(**options):
    policy = FlowMapPolicy(MLP(2, width=8), (2,))
    af.pretrain(policy, ring(), steps=3, batch_size=4, **options)
    af.finetune(policy, ring_reward(), steps=3, batch_size=4, pool=8, **options)


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_training_shows_a_bar_on_a_terminal_and_nowhere_else(kind, monkeypatch):
    shown = kind()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(progress.console, "_file", shown)
    train()
    assert shown.getvalue().count("3/3") == (2 if kind is Terminal else 0)


def test_a_custom_progress_takes_the_bar_s_place(monkeypatch):
    shown, steps = Terminal(), []
    monkeypatch.setattr(sys, "stderr", shown)
    train(progress=lambda step, of, metrics: steps.append((step, of)))
    assert steps == [(1, 3), (2, 3), (3, 3)] * 2 and not shown.getvalue()
