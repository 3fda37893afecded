"""The reward interface: what may answer, what is refused, where the graph is, what NaN does."""

import copy
import math

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import nn

import alignflow as af
from alignflow.reward_module import Reward, RewardError, as_reward, reward

STATES = torch.arange(6.0).view(3, 2)


def total(endpoint):
    return endpoint.sum(-1)


# what a reward is called


def test_the_decorator_works_with_and_without_arguments():
    bare = reward(total)
    named = reward(name="amount", differentiable=True)(total)
    assert isinstance(bare, Reward) and (bare.name, bare.differentiable) == ("total", False)
    assert isinstance(named, Reward) and (named.name, named.differentiable) == ("amount", True)
    torch.testing.assert_close(bare(STATES), torch.tensor([1.0, 5.0, 9.0]))
    torch.testing.assert_close(named(STATES), bare(STATES))


def test_the_face_has_the_decorator():
    assert af.reward is reward and af.RewardError is RewardError


def test_a_module_is_named_by_its_class():
    assert Reward(nn.Flatten(0)).name == "Flatten"


def test_printing_shows_name_and_kind():
    assert repr(reward(total)) == "Reward('total', black box)"
    assert repr(reward(differentiable=True)(total)) == "Reward('total', differentiable)"


# what it may answer

ANSWERS = {
    "(N,)": lambda x: x.sum(-1),
    "(N, 1)": lambda x: x.sum(-1, keepdim=True),
    "integers": lambda x: x.sum(-1).long(),
    "numpy": lambda x: x.numpy().sum(-1),
    "numpy (N, 1)": lambda x: x.numpy().sum(-1, keepdims=True),
    "numpy float64": lambda x: x.numpy().astype(np.float64).sum(-1),
    "list of floats": lambda x: [float(row.sum()) for row in x],
    "list of ints": lambda x: [int(row.sum()) for row in x],
    "list of numpy scalars": lambda x: list(x.numpy().sum(-1)),
    "list of tensors": lambda x: [row.sum() for row in x],
    "tuple of floats": lambda x: tuple(x.sum(-1).tolist()),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_every_form_of_answer_becomes_a_float_for_each_sample(answer):
    rewards = Reward(answer)(STATES)
    assert rewards.dtype == torch.float32
    assert rewards.tolist() == [1.0, 5.0, 9.0]


def test_booleans_count_as_zero_and_one():
    assert Reward(lambda x: x[:, 0] > 1)(STATES).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("states", "rewards"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.long, torch.float32),
    ],
    ids=str,
)
def test_rewards_have_the_precision_of_the_states_but_at_least_float32(states, rewards):
    assert Reward(lambda x: x.double().sum(-1))(STATES.to(states)).dtype == rewards


def test_a_list_of_tensors_keeps_its_gradient():
    each = Reward(lambda x: [row.square().sum() for row in x], differentiable=True)
    states = STATES.clone().requires_grad_()
    each(states).sum().backward()
    torch.testing.assert_close(states.grad, 2 * STATES)


# what it may not

REFUSED = {
    "a scalar": (lambda x: x.sum(), r"shape \(3,\) or \(3, 1\), got shape \(\)"),
    "a float": (lambda x: 1.0, r"got shape \(\)"),
    "too many": (lambda x: torch.zeros(len(x) + 1), r"3 samples.*got shape \(4,\)"),
    "a row each": (lambda x: x, r"got shape \(3, 2\)"),
    "nothing": (lambda x: None, "numbers, got NoneType"),
    "a text": (lambda x: "good", "numbers, got str"),
    "texts": (lambda x: ["good"] * len(x), "numbers, got list"),
    "numpy texts": (lambda x: np.array(["good"] * len(x)), "numbers, got ndarray"),
    "mappings": (lambda x: [{}] * len(x), "numbers, got list"),
    "a sparse tensor": (lambda x: x[:, 0].to_sparse(), "dense numbers, got .*torch.sparse_coo"),
    "a tensor without numbers": (lambda x: x[:, 0].to("meta"), "dense numbers, got .*meta"),
    "complex numbers": (lambda x: x[:, 0] * 1j, "real numbers, got torch.complex64"),
}


@pytest.mark.parametrize(("answer", "message"), REFUSED.values(), ids=REFUSED)
def test_an_answer_that_is_not_a_number_a_sample_is_refused(answer, message):
    with pytest.raises(RewardError, match=rf"reward 'odd' must return .*{message}"):
        Reward(answer, "odd")(STATES)


def test_a_reward_that_sets_the_default_dtype_leaves_it_as_it_was():
    def careless(x):
        torch.set_default_dtype(torch.float64)
        return x[:, 0]

    Reward(careless).score(STATES)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", [3, math.nan, object()])
def test_a_name_is_a_text(name):
    with pytest.raises(ValueError, match="^name must be a text, got "):
        Reward(total, name)
    with pytest.raises(ValueError, match="^name must be a text, got "):
        af.Sum({"total": (total, 1.0)}, name)
    with pytest.raises(ValueError, match="^each name of a term must be a text, got "):
        af.Sum({name: (total, 1.0)})


def test_a_reward_for_a_single_sample_is_not_a_scalar_either():
    with pytest.raises(RewardError, match=r"got shape \(\)"):
        Reward(lambda x: x.sum())(STATES[:1])


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="space must be one of decoded, state, got 'pixels'"):
        Reward(total, space="pixels")
    with pytest.raises(ValueError, match="on_invalid must be one of raise, .*, got 'ignore'"):
        Reward(total, on_invalid="ignore")


# rewards that raise


def fragile(endpoint):
    if (endpoint[:, 0] == 4).any():
        raise KeyError("no such molecule")
    return endpoint[:, 0]


def test_a_reward_that_raises_is_named_with_its_batch_and_cause():
    with pytest.raises(RewardError) as caught:
        reward(fragile)(STATES)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, KeyError)
    assert str(caught.value) == (
        "reward 'fragile' raised KeyError on a batch of 3: 'no such molecule'"
    )


def test_a_reward_that_raises_is_not_called_again():
    calls = []

    def narrow(endpoint):
        calls.append(len(endpoint))
        raise MemoryError("out of memory")

    with pytest.raises(RewardError, match="MemoryError on a batch of 3: out of memory"):
        Reward(narrow)(STATES)
    assert calls == [3]


def test_an_interrupt_is_not_a_failing_reward():
    def interrupted(endpoint):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Reward(interrupted)(STATES)


# NaN and infinity


def spoiled(endpoint):
    return torch.tensor([1.0, torch.nan, 3.0, torch.inf, -torch.inf])


FIVE = torch.zeros(5, 2)


def test_invalid_numbers_raise_by_default_naming_the_samples():
    message = r"'spoiled' is not finite for samples 1 \(nan\), 3 \(inf\), 4 \(-inf\) of 5"
    with pytest.raises(RewardError, match=message):
        reward(spoiled)(FIVE)


def test_many_invalid_samples_are_counted_and_not_all_listed():
    with pytest.raises(RewardError, match=r"7 \(nan\) and 12 more of 20"):
        Reward(lambda x: torch.full((20,), torch.nan))(torch.zeros(20, 1))


def test_invalid_samples_are_dropped_to_minus_infinity_on_request():
    drop = reward(on_invalid="drop")(spoiled)
    assert drop(FIVE).tolist() == [1.0, -torch.inf, 3.0, -torch.inf, -torch.inf]


def test_invalid_samples_take_the_worst_valid_reward_on_request():
    worst = reward(on_invalid="worst")(spoiled)
    assert worst(FIVE).tolist() == [1.0, 1.0, 3.0, 1.0, 1.0]


def test_with_no_valid_sample_the_worst_is_minus_infinity():
    worst = Reward(lambda x: [torch.nan] * 5, on_invalid="worst")
    assert worst(FIVE).tolist() == [-torch.inf] * 5


@pytest.mark.parametrize("on_invalid", ["drop", "worst"])
@pytest.mark.parametrize("decode", [lambda x: x, lambda x: 2 * x], ids=["identity", "double"])
def test_an_invalid_sample_has_no_gradient_and_spoils_no_other(on_invalid, decode):
    root = Reward(lambda x: x[:, 0].sqrt(), differentiable=True, on_invalid=on_invalid)
    states = torch.tensor([[4.0], [-1.0], [16.0]], requires_grad=True)
    rewards = root.score(states, decode=decode)
    (gradient,) = torch.autograd.grad(rewards[rewards.isfinite()].sum(), states)
    valid = states.detach().clamp_min(1.0)  # any positive stand-in for the invalid one
    expected = torch.autograd.functional.jvp(
        lambda x: decode(x).sqrt(), valid, torch.ones_like(valid)
    )[1] * torch.tensor([[1.0], [0.0], [1.0]])
    torch.testing.assert_close(gradient, expected)
    assert not states._backward_hooks  # nothing stays behind on the caller's tensor


# the graph


def test_a_black_box_sees_and_leaves_no_graph():
    seen = []

    def look(endpoint):
        seen.append(endpoint.requires_grad or torch.is_grad_enabled())
        return endpoint.sum(-1)

    states = STATES.clone().requires_grad_()
    assert not reward(look)(states).requires_grad
    assert seen == [False]


def test_a_black_box_may_call_numpy_on_states_that_require_a_gradient():
    assert Reward(lambda x: x.numpy().sum(-1))(STATES.clone().requires_grad_()).tolist() == [
        1,
        5,
        9,
    ]


def test_a_black_box_that_makes_gradients_leaves_no_graph():
    def energetic(endpoint):
        with torch.enable_grad():
            return endpoint.clone().requires_grad_().square().sum(-1)

    assert not reward(energetic)(STATES).requires_grad


def test_a_differentiable_reward_has_the_right_gradient():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    smooth = Reward(lambda x: (x.sin() * x).sum(-1), differentiable=True)
    assert torch.autograd.gradcheck(smooth, states)
    assert torch.autograd.gradgradcheck(smooth, states)


def test_a_differentiable_reward_respects_no_grad():
    with torch.no_grad():
        answer = Reward(total, differentiable=True)(STATES.clone().requires_grad_())
    assert not answer.requires_grad


# what is given


def test_the_decoded_sample_is_scored_unless_the_state_is_asked_for():
    decoded = Reward(total).score(STATES, decode=lambda x: 10 * x)
    raw = Reward(total, space="state").score(STATES, decode=lambda x: 10 * x)
    assert decoded.tolist() == [10.0, 50.0, 90.0] and raw.tolist() == [1.0, 5.0, 9.0]


def test_decoded_texts_are_scored():
    words = Reward(lambda texts: [len(text) for text in texts])
    assert words.score(STATES, decode=lambda x: ["a", "bb", "ccc"]).tolist() == [1.0, 2.0, 3.0]


def test_a_condition_is_passed_only_to_a_function_that_takes_one():
    class Conditioned(nn.Module):
        def forward(self, endpoint, condition=None):
            return endpoint.sum(-1) + condition

    condition = torch.tensor([10.0, 20.0, 30.0])
    for function in (
        lambda endpoint, condition=None: endpoint.sum(-1) + condition,
        lambda endpoint, **rest: endpoint.sum(-1) + rest["condition"],
        Conditioned(),
    ):
        assert Reward(function).score(STATES, condition).tolist() == [11.0, 25.0, 39.0]
    assert Reward(total).score(STATES, condition).tolist() == [1.0, 5.0, 9.0]


# modules and TensorDicts


def test_the_networks_of_a_reward_are_its_modules_and_stay_in_evaluation_mode():
    network = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))
    learned = Reward(network, differentiable=True)
    assert len(list(learned.parameters())) == 2
    assert not any(module.training for module in learned.modules())
    learned.train()
    nn.ModuleList([learned]).train()
    assert not any(module.training for module in learned.modules())
    torch.testing.assert_close(learned(STATES), learned(STATES))


def test_a_reward_can_be_copied():
    line = Reward(nn.Linear(2, 1), "line", differentiable=True)
    copied = copy.deepcopy(line)
    assert copied.name == "line" and copied.differentiable
    assert torch.equal(copied(STATES), line(STATES)) and copied.function is not line.function


def test_a_tensordict_gets_the_rewards_of_its_endpoints():
    condition = torch.tensor([1.0, 2.0, 3.0])
    scaled = Reward(lambda endpoint, condition: endpoint.sum(-1) * condition)
    data = TensorDict({"endpoint": STATES, "condition": condition}, [3])
    assert scaled(data) is data
    assert data["endpoint_reward"].tolist() == [1.0, 10.0, 27.0]
    assert (scaled.in_keys, scaled.out_keys) == (["endpoint"], ["endpoint_reward"])


def test_draws_of_a_batch_are_scored_as_one_flat_batch():
    endpoint = torch.arange(24.0).view(3, 4, 2)
    sizes = []
    counted = Reward(lambda x: sizes.append(len(x)) or x.sum(-1))
    data = counted(TensorDict({"endpoint": endpoint}, [3, 4]))
    torch.testing.assert_close(data["endpoint_reward"], endpoint.sum(-1))
    assert sizes == [12]


# as_reward


def test_a_reward_stays_as_it_is():
    rewarded = reward(total)
    assert as_reward(rewarded) is rewarded


def test_a_plain_callable_is_a_black_box():
    found = as_reward(total)
    assert found.name == "total" and not found.differentiable


def test_what_a_module_says_of_itself_is_believed():
    class Aesthetic(nn.Module):
        name, differentiable, space = "aesthetic", True, "state"

        def forward(self, endpoint):
            return endpoint.sum(-1)

    found = as_reward(Aesthetic())
    assert (found.name, found.differentiable, found.space) == ("aesthetic", True, "state")
    assert as_reward(nn.Linear(2, 1)).differentiable is False


@pytest.mark.parametrize(
    ("candidate", "message"),
    [(3, "must be callable, got int"), (nn.Identity, r"got the class Identity: say Identity\(")],
    ids=["number", "class"],
)
def test_what_is_no_reward_is_refused(candidate, message):
    with pytest.raises(TypeError, match=message):
        as_reward(candidate)
