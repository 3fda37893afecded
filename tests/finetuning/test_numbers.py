"""Every number that a tuning takes is checked where it enters, by name."""

import inspect
import math

import pytest
import torch

import alignflow as af
from alignflow.distillation import LogitNormalTimes, UniformTimes
from alignflow.finetuning import (
    METHODS,
    MMD,
    AdaptiveStages,
    EndpointDistance,
    EqualStages,
    Langevin,
    MapRollout,
    MemorylessRollout,
    ODERollout,
)
from alignflow.finetuning.runs.early_stop import EarlyStop
from alignflow.finetuning.runs.monitor import Monitor
from alignflow.finetuning.runs.options import RunOptions
from alignflow.targets import GaussianMixture

TINY = {"steps": 2, "batch_size": 8}
NO_NUMBERS = [math.nan, math.inf, -1, -0.5, "many", True, torch.ones(2)]
# which acts in an environment, and has tests of its own
POOLED_AND_ROLLOUTS = [name for name in METHODS if name != "grpo"]


def numbers(function):
    """Names of the arguments that are annotated as numbers, each with what it is."""
    for name, parameter in inspect.signature(function).parameters.items():
        kinds = str(getattr(parameter.annotation, "__name__", parameter.annotation)).split(" | ")
        if name != "self" and {"int", "float"} & set(kinds):
            yield name, "int" in kinds


def wrong(whole):
    return [*NO_NUMBERS, *([2.5] if whole else [])]


CASES = [
    (method, name, whole)
    for method in POOLED_AND_ROLLOUTS
    for name, whole in numbers(METHODS[method])
]


@pytest.mark.parametrize(("method", "name", "whole"), CASES)
def test_each_number_of_each_method_is_refused_by_name_where_it_is_none(method, name, whole):
    for value in wrong(whole):
        with pytest.raises((ValueError, TypeError), match=name):
            METHODS[method](**{name: value})


TRAINING = [("learning_rate", False), ("warmup", True), ("clip_norm", False)]
COMMON = list(dict.fromkeys([*numbers(af.finetune), *numbers(RunOptions), *TRAINING]))


@pytest.mark.parametrize(("name", "whole"), COMMON)
def test_each_number_of_every_method_is_refused_by_name_and_leaves_no_folder(
    name, whole, normal, first, tmp_path
):
    options = TINY | {"held_out": {"same": first}, "folder": tmp_path / "run"}
    values = [value for value in wrong(whole) if not (name == "clip_norm" and value is math.inf)]
    for value in values:
        with pytest.raises(ValueError, match=name):
            af.finetune(normal, first, **{**options, name: value})
    assert not (tmp_path / "run").exists()


def test_so_does_a_number_of_the_method_where_a_held_out_reward_may_stop_it(
    normal, first, tmp_path
):
    options = TINY | {"held_out": {"same": first}, "folder": tmp_path / "run", "early_stop": 3}
    with pytest.raises(ValueError, match="pool"):
        af.finetune(normal, first, pool=1, **options)
    assert not (tmp_path / "run").exists()


def law():
    return GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1))


PARTS = {
    MapRollout: MapRollout,
    MemorylessRollout: MemorylessRollout,
    ODERollout: ODERollout,
    MMD: MMD,
    EndpointDistance: EndpointDistance,
    AdaptiveStages: AdaptiveStages,
    UniformTimes: UniformTimes,
    Langevin: lambda **options: Langevin(law(), **options),
}


@pytest.mark.parametrize("kind", PARTS)
def test_each_number_of_the_parts_of_a_method_is_refused_by_name(kind):
    found = dict(numbers(kind.__init__))
    assert found
    for name, whole in found.items():
        for value in wrong(whole):
            with pytest.raises(ValueError, match=name):
                PARTS[kind](**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, "many", True])
def test_so_are_those_with_names_of_their_own(value, normal, first, tmp_path):
    for name, build in {
        "annealing_stages": lambda: EqualStages(value),
        "early_stop": lambda: EarlyStop(tmp_path, value),
        "steps": lambda: Monitor(normal, first, steps=value),
        "mean": lambda: LogitNormalTimes(mean=value),
        "std": lambda: LogitNormalTimes(std=value),
        "strength": lambda: af.finetune(normal, first, strength=value, **TINY),
    }.items():
        with pytest.raises(ValueError, match=name):
            build()


@pytest.mark.parametrize("name", ["recompute", "both_directions", "compile"])
@pytest.mark.parametrize("value", ["maybe", 1, None])
def test_what_is_neither_true_nor_false_is_refused_by_name(name, value, normal, first):
    build = {
        "recompute": lambda: MapRollout(recompute=value),
        "both_directions": lambda: UniformTimes(both_directions=value),
        "compile": lambda: af.finetune(normal, first, compile=value, **TINY),
    }[name]
    with pytest.raises(ValueError, match=f"{name} must be true or false"):
        build()


def test_a_seed_stands_for_a_generator_and_a_float_for_a_count(normal, first):
    one = af.finetune(normal, first, generator=3, steps=2.0, batch_size=8.0, annealing_stages=1.0)
    other = af.finetune(normal, first, generator=torch.Generator().manual_seed(3), **TINY)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_typo_is_answered_with_the_nearest_option(normal, first):
    with pytest.raises(ValueError, match="no option recentring;.* did you mean 'recentering'?"):
        af.finetune(normal, first, recentring=2, **TINY)
    with pytest.raises(ValueError, match="method must be .* did you mean 'weighted'?"):
        af.finetune(normal, first, "wieghted", **TINY)
