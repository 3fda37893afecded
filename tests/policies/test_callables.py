"""Policies from callables: what they refuse of an answer, and how they count it."""

import threading

import pytest
import torch

from alignflow.policies import from_flow_map, from_velocity

X = torch.zeros(3, 2)

WRONG = {
    "fewer rows": lambda x, s, t: x[:1],
    "another shape": lambda x, s, t: x.sum(1),
    "an array": lambda x, s, t: x.numpy(),
    "nothing": lambda x, s, t: None,
}


@pytest.mark.parametrize("function", WRONG.values(), ids=WRONG)
def test_a_map_that_answers_with_other_states_is_refused(function):
    with pytest.raises(ValueError, match=r"states of shape \(3, 2\) with a tensor of the same"):
        from_flow_map(function, (2,)).flow_map(X, 0.0, 1.0)


def test_a_velocity_that_answers_with_other_states_is_refused():
    def narrow(x, t):
        return x[:, :1]

    policy = from_velocity(narrow, (2,))
    for call in (lambda: policy.velocity(X, 0.5), lambda: policy.flow_map(X, 0.0, 1.0)):
        with pytest.raises(ValueError, match=r"narrow must answer.*\(3, 1\)"):
            call()


@pytest.mark.parametrize("tolerance", [-1, 0, float("nan"), "small"])
def test_what_is_no_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a positive number"):
        from_velocity(lambda x, t: x, (2,), tolerance=tolerance)


@pytest.mark.parametrize("build", [from_velocity, from_flow_map])
def test_what_is_no_function_is_refused(build):
    with pytest.raises(ValueError, match="function must be a callable, got 'avatars'"):
        build("avatars", (2,))


def test_each_thread_reads_the_evaluations_of_its_jump():
    policy = from_velocity(lambda x, t: -x * 30 * t[:, None], (2,))
    policy.flow_map(X + 1, 0.0, 1.0)
    mine = policy.evaluations
    other = threading.Thread(target=lambda: policy.flow_map(X + 1, 0.0, 0.01))
    other.start()
    other.join()
    assert policy.evaluations == mine > 7


def test_a_condition_for_a_function_that_takes_none_is_refused():
    for policy in (from_velocity(lambda x, t: x, (2,)), from_flow_map(lambda x, s, t: x, (2,))):
        with pytest.raises(ValueError, match="<lambda> takes no condition"):
            policy.sample(3, condition=1)
    conditional = from_flow_map(lambda x, s, t, condition: x + condition[:, None], (2,))
    assert conditional.sample(3, condition=1, generator=0).shape == (3, 2)


@pytest.mark.parametrize("state", [X.numpy(), X.tolist(), X.long(), None], ids=repr)
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match=r"a state must be a tensor of floats \(N, \*E\)"):
        from_flow_map(lambda x, s, t: x, (2,)).flow_map(state, 0.0, 1.0)
