"""The environments of reinforcement learning."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of environments."""
    given = {"policy": "policy", "reward": "red", "steps": "2"}
    process = {
        "policy": v.policy(),
        "reward": v.reward(),
        "steps": v.count(),
        "grid": v.grid().filter(lambda text: text != "'unifrom'"),
        "jitter": v.flag(),
    }
    transition = v.among(v.choice("sde", "anchored"), v.each("'euler'", "{'name': 'no_such'}"))
    return [
        valid(
            "envs.DenoisingEnv",
            given,
            positional=("policy",),  # torchrl keeps this name for itself
            num_envs=v.count(),
            kl_weight=v.nonnegative(),
            transition=transition,
            seed=v.count(0),
            condition=v.each("'abc'", "object()", "nan", "{}"),
            unknown=("num_envs", "kl_weight", "jitter"),
            **process,
        ),
        valid(
            "envs.DenoisingGym", given, render_mode=v.choice("rgb_array", optional=True), **process
        ),
        valid("envs.DenoisingVectorGym", {"num_envs": "2", **given}, num_envs=v.count(), **process),
        valid(
            "envs.denoising_actor",
            {"policy": "policy"},
            policy=v.policy(),
            transition=transition,
        ),
    ]
