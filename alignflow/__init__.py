"""alignflow aligns few-step generative models (flow maps) with rewards.

The names below are imported when they are first used, so that `import alignflow` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .version import VERSION as __version__

# name -> module that defines it; a subpackage has the name of its module
_FACE = {
    "CheckpointError": "checkpoint",
    "FlowMap": "flow_map",
    "FlowMapPolicy": "policies",
    "Reward": "reward_module",
    "RewardError": "reward_module",
    "Sum": "reward_module",
    "Tilt": "tilt",
    "Vocabulary": "data",
    "advise": "steering",
    "as_reward": "reward_module",
    "check_reward": "reward_module",
    "data": "data",
    "envs": "envs",
    "evaluate": "metrics",
    "finetune": "finetuning",
    "from_flow_map": "policies",
    "from_scores": "reward_module",
    "from_velocity": "policies",
    "kernels": "kernels",
    "learn_posterior": "distillation",
    "learn_value": "distillation",
    "load": "policies",
    "load_value": "policies",
    "policies": "policies",
    "pretrain": "distillation",
    "reward": "reward_module",
    "rewards": "rewards",
    "samplers": "samplers",
    "steer": "steering",
    "targets": "targets",
}

__all__ = ["__version__", *_FACE]


def __getattr__(name: str):
    if name not in _FACE:
        raise AttributeError(f"module 'alignflow' has no attribute {name!r}")
    module = import_module(f"alignflow.{_FACE[name]}")
    value = module if name == _FACE[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from alignflow import data, envs, kernels, policies, rewards, samplers, targets
    from alignflow.checkpoint import CheckpointError
    from alignflow.data import Vocabulary
    from alignflow.distillation import learn_posterior, learn_value, pretrain
    from alignflow.finetuning import finetune
    from alignflow.flow_map import FlowMap
    from alignflow.metrics import evaluate
    from alignflow.policies import FlowMapPolicy, from_flow_map, from_velocity, load, load_value
    from alignflow.reward_module import (
        Reward,
        RewardError,
        Sum,
        as_reward,
        check_reward,
        from_scores,
        reward,
    )
    from alignflow.steering import advise, steer
    from alignflow.tilt import Tilt
