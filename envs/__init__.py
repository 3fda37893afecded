"""The denoising process as a Markov decision process, for torchrl and for gymnasium.

Importing it registers `alignflow/Denoising-v0` with gymnasium, which imports it by itself for
`gymnasium.make("alignflow.envs:alignflow/Denoising-v0", policy=..., reward=...)`. The names below
are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gymnasium.envs.registration import register

_HOMES = {
    "DenoisingEnv": "torchrl_env",
    "DenoisingGym": "gymnasium_env",
    "DenoisingProcess": "process",
    "DenoisingVectorGym": "gymnasium_env",
    "StepDistribution": "actor",
    "denoising_actor": "actor",
}

__all__ = [
    "DenoisingEnv",
    "DenoisingGym",
    "DenoisingProcess",
    "DenoisingVectorGym",
    "StepDistribution",
    "denoising_actor",
]


register(
    "alignflow/Denoising-v0",
    entry_point="alignflow.envs:DenoisingGym",
    vector_entry_point="alignflow.envs:DenoisingVectorGym",
)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'alignflow.envs' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


if TYPE_CHECKING:
    from .actor import StepDistribution, denoising_actor
    from .gymnasium_env import DenoisingGym, DenoisingVectorGym
    from .process import DenoisingProcess
    from .torchrl_env import DenoisingEnv
