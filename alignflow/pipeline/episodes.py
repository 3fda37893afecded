"""Some episodes of the base and of the tuned policy, where tuning acted in an environment."""

import torch
from torch import Tensor

from alignflow.checkpoint import save_folder
from alignflow.finetuning.policy_gradient.episodes import seeded_rollout
from alignflow.finetuning.policy_gradient.grpo import environment_maker
from alignflow.flow_map import FlowMap

from .build import build, build_condition
from .context import Context
from .judging import decoded

__all__ = ["save_episodes"]

EPISODES = 64


def save_episodes(context: Context, models: dict[str, FlowMap]) -> None:
    """Save the decoded states of episodes, (64, T + 1, ...) by model, all from the same noise.

    Nothing is saved where the run's tuner has no environment, or where states decode to no tensor.
    """
    node = context.config.get("finetuner")
    if not node or "environment" not in node:
        return
    environment = environment_maker(build(node)["environment"], context.policy)
    condition = build_condition(context.config.condition, slice(0, EPISODES))
    env = environment(context.policy, context.reward, num_envs=EPISODES, condition=condition)
    paths, times = {}, torch.zeros(0)
    for name, model in models.items():
        seed = context.config.seed
        path = seeded_rollout(env, env.actor(model), seed, seed)
        states = torch.cat([path["state"], path["next", "state"][:, -1:]], dim=1)
        times = torch.cat([path["time"][0, :, 0], path["next", "time"][0, -1:, 0]])
        shown = list(decoded(context, states.flatten(0, 1)))
        if not isinstance(shown[0], Tensor):
            return
        paths[name] = torch.cat(shown).unflatten(0, states.shape[:2]).detach()
    folder = context.folder.stage("evaluate") / "episodes"
    save_folder(folder, paths, {"times": times.tolist()}, allow_nonfinite=True)
