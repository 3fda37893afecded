"""Rewards in the form of other libraries."""

import numpy as np
import pytest
import torch

import alignflow as af
from alignflow.reward_module import RewardError

IMAGES = torch.linspace(0, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)


def recorded(answer):
    calls = []

    def aesthetic(images, prompts, metadata):
        calls.append((images, prompts, metadata))
        return answer(images)

    return aesthetic, calls


def test_scores_and_info_become_a_black_box_reward():
    function, calls = recorded(lambda images: (images.numpy().mean((1, 2, 3)), {"note": "x"}))
    adapted = af.from_scores(function, metadata={"source": "test"})
    assert (adapted.name, adapted.differentiable) == ("aesthetic", False)
    torch.testing.assert_close(adapted(IMAGES), IMAGES.mean((1, 2, 3)))
    images, prompts, metadata = calls[0]
    torch.testing.assert_close(images, IMAGES)
    assert prompts == ["", ""] and metadata == [{"source": "test"}] * 2


@pytest.mark.parametrize(
    ("condition", "prompts"),
    [
        ("a cat", ["a cat", "a cat"]),
        (["a cat", "a dog"], ["a cat", "a dog"]),
        (["a cat"], ["a cat", "a cat"]),
        (torch.tensor([3, 7]), [3, 7]),
        (torch.tensor(3), [3, 3]),
        (np.array(["a cat", "a dog"]), ["a cat", "a dog"]),
    ],
    ids=["one", "each", "one in a list", "labels", "one label", "array"],
)
def test_the_condition_becomes_one_prompt_a_sample(condition, prompts):
    function, calls = recorded(lambda images: [0.0, 1.0])
    assert af.from_scores(function).score(IMAGES, condition).tolist() == [0.0, 1.0]
    assert calls[0][1] == prompts


def test_a_wrong_number_of_prompts_is_refused():
    function, _ = recorded(lambda images: [0.0, 1.0])
    with pytest.raises(RewardError, match="there are 3 prompts for 2 samples"):
        af.from_scores(function).score(IMAGES, ["a", "b", "c"])


def test_a_bad_answer_is_refused_like_any_other():
    function, _ = recorded(lambda images: ({"avg": [0.0, 1.0]}, {}))
    with pytest.raises(RewardError, match="reward 'aesthetic' must return numbers, got dict"):
        af.from_scores(function)(IMAGES)


def test_invalid_scores_follow_on_invalid():
    function, _ = recorded(lambda images: ([float("nan"), 1.0], {}))
    assert af.from_scores(function, on_invalid="drop")(IMAGES).tolist() == [-torch.inf, 1.0]
