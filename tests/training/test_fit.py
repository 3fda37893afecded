"""A training in one call, and one that is only built."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

import alignflow as af
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.training import Trainer, TrainingOptions, fit

QUICK = {"steps": 3, "batch_size": 4, "generator": 0}


class Bowl(nn.Module):
    """|w - 1|^2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        return TensorDict({"loss_bowl": (self.weight - batch["one"]).square().mean()})


def draw(generator):
    return TensorDict({"one": torch.ones(4, 2)}, 4)


def test_it_minimizes_the_loss_and_returns_the_averaged_weights():
    bowl = Bowl()
    options = TrainingOptions(learning_rate=0.1, ema_decay=0.9)
    averaged = fit(bowl, bowl, draw, steps=200, generator=0, options=options)
    assert averaged is not bowl and not averaged.weight.requires_grad
    torch.testing.assert_close(averaged.weight.data, torch.ones(2), atol=1e-2, rtol=0)


def test_options_are_split_from_others_and_checked():
    options, rest = TrainingOptions.split({"warmup": 5.0, "diagonal_fraction": 0.5})
    assert options == TrainingOptions(warmup=5) and rest == {"diagonal_fraction": 0.5}
    with pytest.raises(ValueError, match="log_every must be a whole number of at least 1, got 0"):
        TrainingOptions.split({"log_every": 0})


def test_held_modules_take_no_gradient_and_evaluate_while_it_runs():
    bowl, held = Bowl(), nn.Linear(1, 1)
    seen = []

    def watched(generator):
        seen.append((held.training, held.weight.requires_grad))
        return draw(generator)

    Trainer(bowl, bowl, watched, steps=2, held=[held]).run()
    assert seen == [(False, False)] * 2
    assert held.training and held.weight.requires_grad


@pytest.mark.parametrize("call", [af.pretrain, af.learn_posterior], ids=lambda call: call.__name__)
def test_what_is_only_built_is_checked_and_touches_no_folder(call, tmp_path):
    policy, data = FlowMapPolicy(MLP(2, width=4, depth=1), (2,)), torch.zeros(8, 2)
    with pytest.raises(ValueError, match="learning_rate"):
        call.build(policy, data, **QUICK, folder=tmp_path / "run", learning_rate=-1)
    training = call.build(policy, data, **QUICK, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    trained = training.run()
    again = call(policy, data, **QUICK)
    pairs = zip(trained.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
