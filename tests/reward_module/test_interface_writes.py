"""A reward that writes into what it is given changes nothing for anybody else."""

import numpy as np
import pytest
import torch

import alignflow as af
from alignflow.reward_module import Reward, Sum
from alignflow.targets import ring

STATES = torch.arange(1.0, 7).view(3, 2)


def halved(x):
    return x.mul_(0.5).sum(1)


def halved_in_numpy(x):
    view = x.numpy()
    view *= 0.5
    return view.sum(1)


def emptied(texts):
    lengths = [float(len(text)) for text in texts]
    texts.clear()
    return lengths


WRITERS = {
    "tensor": (halved, {}),
    "differentiable": (halved, {"differentiable": True}),
    "state": (halved, {"space": "state"}),
    "state, differentiable": (halved, {"space": "state", "differentiable": True}),
    "NumPy's view": (halved_in_numpy, {}),
}


@pytest.mark.parametrize("decode", [lambda x: x, lambda x: x.view_as(x)], ids=["itself", "a view"])
@pytest.mark.parametrize(("function", "options"), WRITERS.values(), ids=WRITERS)
def test_the_caller_s_states_stay_as_they_were(function, options, decode):
    states = STATES.clone()
    assert Reward(function, **options).score(states, decode=decode).tolist() == [1.5, 3.5, 5.5]
    assert torch.equal(states, STATES)


def test_a_gradient_goes_through_what_was_written():
    states = STATES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        Reward(halved, differentiable=True).score(states).sum(), states
    )
    assert gradient.unique().tolist() == [0.5]


def test_a_decoded_list_stays_as_it_was():
    decoded = ["a", "bb", "ccc"]
    assert Reward(emptied).score(STATES, decode=lambda x: decoded).tolist() == [1.0, 2.0, 3.0]
    assert decoded == ["a", "bb", "ccc"]


@pytest.mark.parametrize(
    "condition", [torch.ones(3), np.ones(3), {"a": torch.ones(3)}], ids=["tensor", "array", "dict"]
)
def test_conditions_stay_as_they_were(condition):
    def greedy(x, condition=None):
        field = condition["a"] if isinstance(condition, dict) else condition
        field *= 2
        return field

    assert Reward(greedy).score(STATES, condition).tolist() == [2.0, 2.0, 2.0]
    field = condition["a"] if isinstance(condition, dict) else condition
    assert (field == 1).all()


def test_the_terms_of_a_sum_do_not_see_each_other_s_writes():
    plain = Reward(lambda x: x.sum(1), "plain")
    for writer in (halved, halved_in_numpy):
        both = Sum({"writer": (writer, 1.0), "plain": (plain, 1.0)})
        assert both(STATES.clone()).tolist() == [4.5, 10.5, 16.5]
    decoded = ["a", "bb", "ccc"]
    twice = Sum({"first": (emptied, 1.0), "second": (emptied, 1.0)})
    assert twice.score(STATES, decode=lambda x: decoded).tolist() == [2.0, 4.0, 6.0]


def test_an_answer_whose_memory_is_used_again_stays():
    buffer = np.zeros(3, dtype=np.float32)

    def counted(x):
        buffer[:] += 1
        return buffer

    reward = Reward(counted)
    first = reward.score(STATES)
    reward.score(STATES)
    assert first.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("options", [{}, {"differentiable": True}], ids=["box", "differentiable"])
def test_a_steered_sample_is_what_it_is_without_the_writing(options):
    writer = Reward(halved, "halved", **options)
    clean = Reward(lambda x: (x / 2).sum(1), "halved", **options)
    drawn = [
        af.steer(ring(), reward, "best_of_n", strength=1.0, particles=4, steps=2).sample(
            8, generator=torch.Generator().manual_seed(0)
        )
        for reward in (writer, clean)
    ]
    assert torch.equal(drawn[0]["state"], drawn[1]["state"])
    assert torch.equal(drawn[0]["reward"], drawn[1]["reward"])
    assert torch.equal(drawn[0]["particles", "state"], drawn[1]["particles", "state"])


def test_evaluated_samples_are_what_they_were():
    samples = STATES.clone()
    judges = {"half": halved, "sum": lambda x: x.sum(1)}
    found = af.evaluate(samples, reward=halved, judges=judges)
    assert torch.equal(samples, STATES)
    assert found["reward"].value == found["half"].value == found["sum"].value / 2
