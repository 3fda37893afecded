"""What the stages of a run share: its folder, its config, and the parts that it describes."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from alignflow.flow_map import FlowMap
from alignflow.precision import autocast
from alignflow.reward_module import Reward

from .build import build, build_condition, build_reward
from .display import console
from .folder import RunFolder

__all__ = ["Context"]

MODEL = "model"


class Context:
    """Parts of a run, and the randomness of its stages.

    Args:
        config: Checked by `check_config`.
        folder: Of the run.
    """

    def __init__(self, config: DictConfig, folder: RunFolder):
        self.config, self.folder = config, folder

    @cached_property
    def initial_policy(self) -> FlowMap:
        """The policy that the config describes, as it is before any stage."""
        # networks draw their first weights from torch's own generator
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            return build(self.config.policy).to(self.config.device)

    @cached_property
    def policy(self) -> FlowMap:
        """The base model of alignment: what this run trained before, or else the config's."""
        return self.model("learn_posterior") or self.pretrained

    @cached_property
    def pretrained(self) -> FlowMap:
        """What this run pretrained, or else the config's policy."""
        return self.model("pretrain") or self.initial_policy

    def model(self, stage: str) -> FlowMap | None:
        """What a training stage of this run made; None if there is no such stage."""
        if stage not in self.config.stages:
            return None
        load: Callable[..., FlowMap] = build(self.config.loader)
        return load(self.folder.stage(stage) / MODEL).to(self.config.device)

    def save_model(self, stage: str, policy: Any) -> None:
        """Keep what a training stage made, a policy that can be saved."""
        policy.save(self.folder.stage(stage) / MODEL)

    @cached_property
    def reward(self) -> Reward:
        return build_reward(self.config.reward).to(self.config.device)

    @cached_property
    def reference(self) -> Any:
        """The law that is aimed at, by samples; None if the run has none."""
        node = self.config.get("reference")
        return build(node) if node else None

    @cached_property
    def held_out(self) -> dict[str, Reward]:
        """Rewards that are only measured; one that is not installed is left out, and said so."""
        rewards = {}
        for name, node in (self.config.get("held_out") or {}).items():
            try:
                rewards[name] = build_reward(node).to(self.config.device)
            except (ImportError, RuntimeError) as error:
                console.print(f"held-out reward {name} is left out: {error}", style="yellow")
        return rewards

    def condition(self, rows: slice) -> Tensor | None:
        """Labels of some rows of all samples."""
        condition = build_condition(self.config.condition, rows)
        return None if condition is None else condition.to(self.config.device)

    def autocast(self):
        """Where a frozen model is evaluated: in the precision of the run."""
        return autocast(self.config.precision, self.config.device)

    def training_generator(self) -> torch.Generator:
        """Source of randomness of a training."""
        return torch.Generator().manual_seed(self.config.seed)

    def sample_generator(self, batch: int) -> torch.Generator:
        """Source of randomness of a batch of samples: the same for every model and device."""
        return torch.Generator().manual_seed(1_000_003 * (self.config.seed + 1) + batch)
