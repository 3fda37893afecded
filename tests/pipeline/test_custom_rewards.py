"""Rewards by name: functions, rewards, classes and factories, of the user's own or installed."""

import sys

import pytest
import torch

from alignflow.pipeline import ConfigError, build_reward
from alignflow.reward_module import Reward, Sum

MODULE = """
import torch
import alignflow as af

def plain(points, condition=None):
    return points[:, 0]

def scaled(points, scale):
    return scale * points[:, 0]

@af.reward(differentiable=True)
def decorated(points):
    return points[:, 0]

class Module(torch.nn.Module):
    differentiable = True
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
    def forward(self, points):
        return self.scale * points[:, 0]

def factory(scale=1.0):
    return Module(scale)
"""
POINTS = torch.tensor([[1.0, 5.0], [-2.0, 5.0]])


@pytest.fixture(autouse=True)
def my_module(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_module", None)


@pytest.mark.parametrize(
    ("node", "scale"),
    [
        ("my_module.plain", 1),
        ("my_module:plain", 1),
        ("my_module.decorated", 1),
        ("my_module.Module", 1),
        ("my_module.factory", 1),
        ({"_target_": "my_module.Module", "scale": 3}, 3),
        ({"_target_": "my_module.factory", "scale": 3}, 3),
        ({"_target_": "my_module.scaled", "scale": 3}, 3),
    ],
    ids=str,
)
def test_a_target_is_taken_as_a_reward_or_called_for_one(node, scale):
    reward = build_reward(node)
    assert isinstance(reward, Reward)
    torch.testing.assert_close(reward(POINTS), scale * POINTS[:, 0])


@pytest.mark.parametrize(
    ("name", "differentiable"), [("plain", False), ("decorated", True), ("factory", True)]
)
def test_a_gradient_is_what_the_target_declares(name, differentiable):
    assert build_reward(f"my_module.{name}").differentiable is differentiable


def test_a_reward_is_called_by_its_function_s_name():
    assert build_reward({"_target_": "my_module.scaled", "scale": 2}).name == "scaled"


def test_the_terms_of_a_sum_follow_the_same_rule():
    node = {
        "_target_": "alignflow.reward_module.Sum",
        "terms": {
            "a": [{"_target_": "my_module.plain"}, 1.0],
            "b": [{"_target_": "my_module.Module", "scale": 2}, 0.5],
        },
    }
    reward = build_reward(node)
    assert isinstance(reward, Sum)
    torch.testing.assert_close(reward(POINTS), 2 * POINTS[:, 0])


def test_an_installed_package_s_reward_goes_by_its_entry_point(tmp_path):
    facts = tmp_path / "my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[alignflow.rewards]\nmine = my_module:Module\n")
    torch.testing.assert_close(build_reward("mine")(POINTS), POINTS[:, 0])
    with pytest.raises(ConfigError, match=r"no reward 'other'.*\(mine\)"):
        build_reward("other")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("nowhere.my_reward", "nowhere.my_reward cannot be imported.*working directory"),
        ("my_module.missing", "my_module.missing cannot be imported"),
        ({"scale": 1.0}, "needs a _target_"),
        ({"_target_": "my_module.decorated", "scale": 1.0}, "reward already and takes no scale"),
        ({"_target_": "my_module.Module", "sclae": 1.0}, "takes no sclae; it takes scale"),
        ({"_target_": "my_module.scaled", "sclae": 1.0}, "takes no sclae; it takes points, scale"),
    ],
    ids=str,
)
def test_a_target_that_is_no_reward_is_refused_by_name(node, message):
    with pytest.raises(ConfigError, match=message):
        build_reward(node)
