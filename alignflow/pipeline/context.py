"""What the stages of a run share: its folder, its config, and the parts that it describes."""

import copy
from functools import cached_property, partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from alignflow.flow_map import FlowMap, Sampler, check_sampler
from alignflow.precision import autocast
from alignflow.reward_module import Reward
from alignflow.strengths import StrengthRange, as_range
from alignflow.tilt import Tilt
from alignflow.values import load_value

from .build import build, build_condition, build_reward
from .display import console
from .folder import RunFolder
from .settings import ConfigError

__all__ = ["Context"]

MODEL = "model"
JUDGES_HAVE = ("labels", "exclusive", "features")
LOADER = "alignflow.policies.load"


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
        # networks draw their first weights from torch's global generator
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
        loader = self.config.loader
        load = build(loader)
        # a saved model names no code, so a network of the user's is loaded into one like it
        module = getattr(self._before(stage), "module", None)
        fits = module is not None and loader.get("_target_") == LOADER and "module" not in loader
        given = {"module": copy.deepcopy(module)} if fits else {}
        return load(self.folder.stage(stage) / MODEL, **given).to(self.config.device)

    @cached_property
    def value(self) -> Any:
        """The value that this run learned; None if there is no such stage."""
        if "learn_value" not in self.config.stages:
            return None
        network = build(self.config.value).get("network")
        value = load_value(self.folder.stage("learn_value") / MODEL, network)
        return value.to(self.config.device)

    def _before(self, stage: str) -> Any:
        """A model of the kind that a training stage makes."""
        policy: Any = self.policy if stage == "finetune" else self.initial_policy
        if stage == "finetune":
            return policy if self.strengths is None else policy.with_strengths(self.strengths)
        return policy.with_context() if stage == "learn_posterior" else policy

    def save_model(self, stage: str, policy: Any) -> None:
        """Save what a training stage made."""
        policy.save(self.folder.stage(stage) / MODEL)

    @cached_property
    def data(self) -> Any:
        """What a training learns from; None if the run has none."""
        node = self.config.get("data")
        return build(node) if node else None

    @cached_property
    def judge(self) -> Any:
        """What says how good samples are; None if the run has none.

        Raises:
            ConfigError: If it is no judge, or two of its labels are the same.
        """
        node = self.config.get("judge")
        if not node:
            return None
        judge = build(node).to(self.config.device)
        if lacking := [name for name in JUDGES_HAVE if not hasattr(judge, name)]:
            raise ConfigError(
                f"judge must be a module with {', '.join(JUDGES_HAVE)}: {type(judge).__name__} has "
                f"no {', '.join(lacking)}"
            )
        labels = [str(label) for label in judge.labels]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ConfigError(f"the judge has two labels of one name: {', '.join(twice)}")
        return judge

    @cached_property
    def reward(self) -> Reward:
        return build_reward(self.config.reward).to(self.config.device)

    @cached_property
    def strengths(self) -> StrengthRange | None:
        """What the run tunes for; None where it aims at one tilt."""
        return as_range(self.config.strength)

    @cached_property
    def tilt(self) -> Tilt:
        """What the run's methods aim at: of a range of strengths, at the largest."""
        largest = self.config.strength if self.strengths is None else self.strengths.upper
        return Tilt(self.reward, largest)

    @property
    def judged_strengths(self) -> list[float]:
        """At which a model that was tuned for a range is judged; by default five, evenly."""
        if self.strengths is None:
            return []
        given = self.config.evaluation.get("strengths")
        lower, upper = self.strengths.lower, self.strengths.upper
        return list(given or torch.linspace(lower, upper, 5, dtype=torch.float64).tolist())

    @cached_property
    def reference(self) -> Any:
        """The distribution that is aimed at, by samples; None if the run has none."""
        return self.reference_of(self.tilt)

    def reference_of(self, tilt: Tilt) -> Any:
        """The same of a tilt: a reference that is a callable is given it, others are what they are.

        Args:
            tilt: The run's, or one at another strength.
        """
        node = self.config.get("reference")
        found = build(node) if node else None
        return found(tilt=tilt) if isinstance(found, partial) else found

    @cached_property
    def sampler(self) -> Sampler | None:
        """What makes the steps of the base and the tuned model; None for their jumps.

        Raises:
            ConfigError: If it is no sampler.
        """
        node = self.config.evaluation.get("sampler")
        try:
            return check_sampler("evaluation.sampler", build(node)) if node else None
        except ValueError as error:
            raise ConfigError(str(error)) from error

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
