"""What is handed to a training and not trained is run frozen, and is as it was when it ends."""

import copy

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.distillation import learn_posterior, pretrain
from alignflow.finetuning import AdaptiveStages
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.reward_module import as_reward

TINY = {"steps": 2, "batch_size": 8}


class Normalized(nn.Module):
    """A network with running statistics, in the mode that training leaves it in."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.change = MLP(1, width=8, depth=2)

    def forward(self, x, s, t):
        return self.change(self.norm(x), s, t)


def policy():
    torch.manual_seed(0)
    return FlowMapPolicy(Normalized(), (1,)).train()


def as_it_was(module):
    """All that training could change in it."""
    return (
        copy.deepcopy(dict(module.state_dict())),
        [m.training for m in module.modules()],
        [p.requires_grad for p in module.parameters()],
        [p.grad for p in module.parameters()],
    )


def check_untouched(module, before):
    torch.testing.assert_close(dict(module.state_dict()), before[0], rtol=0, atol=0)
    assert as_it_was(module)[1:] == before[1:]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"annealing_stages": AdaptiveStages(most=2, candidates=64)},
        {"recentering": 2, "redistillation": 2},
        {"held_out": {"negative": lambda x: -x[:, 0]}, "early_stop": 3.0},
    ],
    ids=["plain", "adaptive levels", "recentering", "early stop"],
)
@pytest.mark.parametrize("watched", [False, True])
def test_a_tuning_leaves_the_statistics_and_the_mode_of_its_policy(
    options, watched, first, tmp_path
):
    if watched or "early_stop" in options:
        options = options | {"folder": tmp_path, "checkpoint_every": 1}
    ours = policy()
    before = as_it_was(ours)
    tuned = af.finetune(ours, first, strength=0.2, pool=64, generator=0, **TINY | options)
    check_untouched(ours, before)
    assert not any(module.training for module in tuned.modules())


class Net(nn.Module):
    """A reward that is a network with dropout and running statistics."""

    differentiable, name = True, "net"

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout(0.5), nn.Linear(1, 1))

    def forward(self, x):
        return self.layers(x)[:, 0]


@pytest.mark.parametrize("method", ["weighted", "direct"])
def test_rewards_are_as_they_were_those_held_out_too(method, tmp_path):
    torch.manual_seed(0)
    # which keep what they wrap in evaluation mode
    trained, held_out = as_reward(Net()), as_reward(Net())
    before = as_it_was(trained), as_it_was(held_out)
    options = {"held_out": {"other": held_out}, "folder": tmp_path, "generator": 0}
    af.finetune(policy(), trained, method, 0.2, **TINY, **options)
    check_untouched(trained, before[0])
    check_untouched(held_out, before[1])


def test_a_teacher_is_as_it_was():
    teacher, data = policy(), torch.linspace(-1, 1, 64)[:, None]
    before = as_it_was(teacher)
    taught = [pretrain(policy(), data, teacher=teacher, generator=0, **TINY)]
    check_untouched(teacher, before)
    taught.append(pretrain(policy(), data, teacher=teacher.eval(), generator=0, **TINY))
    torch.testing.assert_close(*(dict(t.state_dict()) for t in taught), rtol=0, atol=0)


def test_a_model_that_learns_its_posterior_is_as_it_was():
    ours = FlowMapPolicy(MLP(1, width=8, depth=2), (1,)).train()
    before = as_it_was(ours)
    learn_posterior(ours, generator=0, **TINY)
    check_untouched(ours, before)
