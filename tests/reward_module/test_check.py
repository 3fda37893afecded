"""check_reward: each kind of unsound reward is found and said, and sound ones pass."""

import pytest
import torch

import alignflow as af
from alignflow.flow_map import FlowMap
from alignflow.reward_module import Reward, Sum, check_reward


class StandardNormal(FlowMap):
    """The flow from a standard normal to itself, in closed form; decoded to [0, 1]."""

    def flow_map(self, x, s, t, condition=None):
        return x * ((t**2 + (1 - t) ** 2) / (s**2 + (1 - s) ** 2)) ** 0.5

    def decode(self, x):
        return (x + 4) / 8


POLICY = StandardNormal((3, 2, 2))


def checked(function, condition=None, **options):
    candidate = Reward(function, "candidate", **options)
    return check_reward(candidate, POLICY, condition, generator=torch.Generator().manual_seed(0))


def mean(x):
    return x.mean((1, 2, 3))


def in_place(x):
    return x.mul_(2)[:, 0, 0, 0]


def noisy(x):
    return mean(x) + torch.rand(len(x), generator=NOISE)


NOISE = torch.Generator().manual_seed(0)


def singular(x):
    # finite everywhere, with an infinite derivative at the largest pixel
    top = x.flatten(1).amax(1)
    return mean(x) + (top - top.detach()).sqrt()


UNSOUND = {
    "raises": ({}, lambda x: x.missing, "raised AttributeError on a batch of 4"),
    "wrong shape": ({}, lambda x: x.mean(), r"must return one number for each of the 4 samples"),
    "NaN": ({}, lambda x: mean(x) / 0 * 0, r"is not finite for samples 0 \(nan\)"),
    "batch-dependent": ({}, lambda x: mean(x) - mean(x).mean(), "depends on the batch"),
    "random": ({}, noisy, "answers differently when asked again"),
    "in place": ({}, in_place, "changes the samples"),
    "in place on states": ({"space": "state"}, in_place, "changes the samples"),
    "no graph": ({"differentiable": True}, lambda x: mean(x.detach()), "carries no graph"),
    "numpy": ({"differentiable": True}, lambda x: mean(x.detach()).numpy(), "carries no graph"),
    "constant": (
        {"differentiable": True},
        lambda x: torch.ones(len(x), requires_grad=True),
        "does not depend on the sample",
    ),
    "threshold": (
        {"differentiable": True},
        lambda x: (mean(x) - mean(x).round().detach()).sign() * x.abs().sign().mean((1, 2, 3)),
        "gradient is zero everywhere",
    ),
    "NaN gradient": (
        {"differentiable": True},
        singular,
        r"gradient has NaN or infinity for samples \[0, 1, 2, 3\]",
    ),
    "in place with a graph": (
        {"differentiable": True},
        lambda x: mean(x.sqrt().add_(1).sqrt().mul_(2).detach() + x.exp().mul_(x)),
        "gradient raised",
    ),
}


@pytest.mark.parametrize(("options", "function", "problem"), UNSOUND.values(), ids=UNSOUND)
def test_an_unsound_reward_is_told_what_is_wrong(options, function, problem):
    report = checked(function, **options)
    assert not report.ok
    assert len(report.problems) == 1
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(report.problems[0])
    assert report.problems[0] in str(report)


SOUND = {
    "differentiable": (mean, {"differentiable": True}),
    "black box": (lambda x: x.numpy().mean((1, 2, 3)), {}),
    "indicator": (lambda x: mean(x) > 0.5, {}),
    "state": (mean, {"differentiable": True, "space": "state"}),
    "dropping": (lambda x: (mean(x) - 0.5).log(), {"on_invalid": "drop", "differentiable": True}),
}


@pytest.mark.parametrize(("function", "options"), SOUND.values(), ids=SOUND)
def test_a_sound_reward_passes(function, options):
    report = checked(function, **options)
    assert report.ok, str(report)
    assert len(report.rewards) == 4
    assert str(report).endswith("sound")


def test_a_plain_callable_and_a_mixed_sum_are_checked_as_black_boxes():
    assert check_reward(lambda x: x.numpy().mean((1, 2, 3)), POLICY).ok
    mixed = Sum({"mean": (Reward(mean, differentiable=True), 1.0), "box": (lambda x: mean(x), 1.0)})
    report = af.check_reward(mixed, POLICY)
    assert report.ok and not report.differentiable and "black box" in str(report)


@pytest.mark.parametrize(
    "condition",
    [torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor(2.0), torch.tensor([2.0]), None],
    ids=["each", "one", "one in a batch", "none"],
)
def test_each_sample_keeps_its_condition(condition):
    def scaled(endpoint, condition=None):
        return mean(endpoint) * (1 if condition is None else condition)

    report = checked(scaled, condition, differentiable=True)
    assert report.ok, str(report)


def test_one_sample_is_too_few_to_compare():
    with pytest.raises(ValueError, match="n must be a whole number of at least 2, got 1"):
        check_reward(mean, POLICY, n=1)


def test_a_reward_without_any_finite_number_is_unsound_whatever_becomes_of_nan():
    for on_invalid in ("raise", "drop", "worst"):
        report = checked(lambda x: mean(x) * torch.nan, on_invalid=on_invalid)
        assert not report.ok
        assert "not finite" in str(report) or "for all of the 4 samples" in str(report)


def test_a_term_of_a_sum_that_writes_into_its_samples_is_found():
    report = check_reward(Sum({"mean": (mean, 1.0), "writer": (in_place, 1.0)}), POLICY)
    assert report.problems == ["it changes the samples it is given: work on a copy of them"]


def test_a_reward_that_empties_its_list_of_samples_is_found():
    class Words(StandardNormal):
        def decode(self, x):
            return ["a"] * len(x)

    def emptied(texts):
        lengths = [float(len(text)) for text in texts]
        texts.clear()
        return lengths

    assert "changes the samples" in str(check_reward(emptied, Words((3, 2, 2))))


def test_a_reward_that_fails_now_and_then_is_reported_and_not_raised():
    calls = []

    def flaky(x):
        calls.append(len(x))
        if len(calls) > 1:
            raise OSError("no connection")
        return mean(x)

    assert "raised OSError" in str(checked(flaky))


WRONG = {
    "a name": ({"policy": "avatars"}, ValueError, r"af\.load\('avatars'\)"),
    "a network": ({"policy": torch.nn.Identity()}, ValueError, r"af\.FlowMapPolicy"),
    "conditions": ({"condition": [1, 2]}, ValueError, "4 samples need one condition or 4, got 2"),
    "n": ({"n": 2.5}, ValueError, "n must be a whole number of at least 2, got 2.5"),
    "seed": ({"seed": 1}, ValueError, "check_reward takes no seed: say generator=1"),
    "several": ({"candidate": {"a": mean}}, TypeError, r"af\.Sum\(\{name: \(reward, weight\)"),
    "reward's name": ({"candidate": "ocr"}, TypeError, "must be callable, got str 'ocr'"),
}


@pytest.mark.parametrize(("options", "kind", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_checked_is_refused_with_the_way_out(options, kind, message):
    with pytest.raises(kind, match=message):
        check_reward(**({"candidate": mean, "policy": POLICY} | options))


def test_each_sample_alone_gets_its_condition():
    def by_label(x, condition=None):
        return [float(len(text)) for text in condition]

    report = checked(by_label, condition=["a", "bb", "ccc", "dddd"])
    assert report.ok and report.rewards == [1.0, 2.0, 3.0, 4.0]
