"""Every object that a training takes is checked where it enters, by name, before anything runs."""

import pytest
import torch

import alignflow as af
from alignflow.finetuning import EndpointDistance, MapRollout, MemorylessRollout

QUICK = {"steps": 1, "batch_size": 4}

# of each option: what is none, and what the error says that it must be
WRONG = {
    "times": (
        [3, "x", [], {}, torch.zeros(2), object()],
        r"a sampler of times, such as UniformTimes\(\)",
    ),
    "rule": (
        [3, "x", [], {}, torch.zeros(2), object()],
        r"PSD\(\), LSD\(\), ESD\(\) or Trajectory\(\)",
    ),
    "evaluate": ([3, "x", [], {}, object()], r"a callable \(step, model\)"),
    "progress": ([3, "x", [], {}, object()], r"a callable \(step, steps, metrics\)"),
    "optimizer": ([3, "x", [], {}, object()], r"a callable \(parameters\)"),
    "condition": ([{}, object()], "a tensor, or an array, list or mapping of rows"),
}


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [(name, value, wanted) for name, (values, wanted) in WRONG.items() for value in values],
    ids=str,
)
def test_what_is_no_such_object_is_refused_by_its_name(name, value, wanted, normal, first):
    with pytest.raises(ValueError, match=f"^{name} must be {wanted}, got "):
        af.finetune(normal, first, "weighted", **QUICK, **{name: value})


@pytest.mark.parametrize("name", ["times", "evaluate", "progress", "optimizer"])
@pytest.mark.parametrize("train", ["pretrain", "learn_posterior"])
def test_trainings_of_other_kinds_refuse_it_too(train, name):
    policy = af.FlowMapPolicy(af.policies.MLP(1, width=8), (1,))
    given = {"data": torch.zeros(8, 1), **QUICK, name: {}}
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {{}}"):
        getattr(af, train)(policy, **given)


def test_conditions_are_finite(normal, first):
    with pytest.raises(ValueError, match="^condition must be finite real numbers, got nan$"):
        af.finetune(normal, first, **QUICK, condition=float("nan"))


@pytest.mark.parametrize("folder", [3, {}, True, object()])
def test_a_folder_that_is_no_path_is_refused(folder, normal, first):
    with pytest.raises(ValueError, match="a folder must be given by its path, got "):
        af.finetune(normal, first, **QUICK, folder=folder)
    with pytest.raises(ValueError, match="a folder must be given by its path, got "):
        af.pretrain(normal, torch.zeros(4, 1), **QUICK, folder=folder)


@pytest.mark.parametrize("held_out", ["red", 3, True, [1]])
def test_held_out_rewards_come_by_name(held_out, normal, first, tmp_path):
    with pytest.raises(ValueError, match="^held_out must be a mapping from names to rewards, got"):
        af.finetune(normal, first, **QUICK, folder=tmp_path, held_out=held_out)
    with pytest.raises(ValueError, match="^each name in held_out must be a text, got 1$"):
        af.finetune(normal, first, **QUICK, folder=tmp_path, held_out={1: first})


@pytest.mark.parametrize("value", [3, "x", [], True, MapRollout])
def test_a_way_to_the_endpoint_and_what_holds_it_are_refused_by_name(value, normal, first):
    held = {"regularizer": EndpointDistance()}
    with pytest.raises(ValueError, match="^rollout must be MapRollout .*, got "):
        af.finetune(normal, first, "direct", **QUICK, rollout=value, **held)
    with pytest.raises(ValueError, match=r"^rollout must be MapRollout\(\), .*, got "):
        af.finetune(normal, first, "direct", **QUICK, rollout=value, regularizer=None)
    with pytest.raises(ValueError, match=r"^regularizer must be PathKL\(\), .*, got "):
        af.finetune(normal, first, "direct", **QUICK, regularizer=value)
    with pytest.raises(ValueError, match=r"^rollout must be a MemorylessRollout\(...\), got "):
        af.finetune(normal, first, "adjoint_matching", **QUICK, rollout=value)


def test_paths_of_another_kind_are_refused_by_adjoint_matching(normal, first):
    with pytest.raises(ValueError, match=r"^rollout must be a MemorylessRollout\(...\), got "):
        af.finetune(normal, first, "adjoint_matching", **QUICK, rollout=MapRollout(jumps=2))


@pytest.mark.parametrize("environment", [3, "x", {}, object()])
def test_what_makes_no_environment_is_refused(environment, normal, first):
    with pytest.raises(ValueError, match=r"^environment must be a callable \(base, reward, "):
        af.finetune(normal, first, "grpo", **QUICK, environment=environment)


@pytest.mark.parametrize("method", ["direct", "adjoint_matching"])
def test_a_gradient_that_does_not_reach_the_sample_is_refused(method, normal):
    @af.reward(differentiable=True)
    def aloof(x):
        return torch.ones(len(x), requires_grad=True)

    with pytest.raises(af.RewardError, match="'aloof' says .* does not depend on the sample"):
        af.finetune(normal, aloof, method, **QUICK, rollout=MemorylessRollout(jumps=2))
