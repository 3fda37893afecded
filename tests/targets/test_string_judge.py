"""Which of a list a string is."""

import torch

from alignflow.targets import StringJudge


def test_each_string_has_its_label_and_any_other_the_last():
    judge = StringJudge(["New York", "San Diego"])
    found = judge(["San Diego", "New Diego", "New York"])
    assert judge.labels == ("New York", "San Diego", "another")
    assert torch.equal(found, torch.eye(3)[[1, 2, 0]])
    assert torch.equal(judge.features(["New York"]), torch.eye(3)[:1])
