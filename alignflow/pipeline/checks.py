"""What is wrong with a run's config, said before anything runs."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from alignflow import checks

from .settings import SETTINGS, ConfigError, settled

__all__ = ["ConfigError", "check_config", "without_remnants"]

# what each stage cannot do without, and what it reads besides
NEEDS = {
    "pretrain": {"policy", "data", "training"},
    "learn_posterior": {"policy", "training"},
    "learn_value": {"policy", "reward", "value"},
    "finetune": {"policy", "reward", "finetuner"},
    "steer": {"policy", "reward", "steerer"},
    "evaluate": {"policy", "reward"},
    "report": set(),
}
READS = NEEDS | {
    "learn_posterior": NEEDS["learn_posterior"] | {"data"},
    "finetune": NEEDS["finetune"] | {"held_out"},
    "evaluate": NEEDS["evaluate"] | {"judge", "held_out", "reference"},
}
TRAINING = {"pretrain", "learn_posterior", "learn_value", "finetune"}
CONDITIONED = {"learn_value", "finetune", "steer", "evaluate"}
PLAIN = {*SETTINGS, "stages", "evaluation", "loader"}
# parts that one key makes what they are; all else in them are its arguments
WHOLE = {"policy", "data", "reward", "judge", "reference", "steerer", "finetuner"}
BY_METHOD = {"steerer", "finetuner"}
PARTS = set().union(*READS.values())


def check_config(config: DictConfig) -> DictConfig:
    """The config with its values in the types that stages trust, if it could run to its end.

    Raises:
        ConfigError: If it could not, or holds a knob that would do nothing; it names the key and
            what to do about it.
    """
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"the config leaves {', '.join(missing)} open: give a value")
    known = PLAIN | PARTS
    if unknown := sorted(set(map(str, config)) - known):
        hint = checks.did_you_mean(unknown[0], known)
        raise ConfigError(
            f"unknown config key {', '.join(unknown)}; known: {', '.join(sorted(known))}{hint}"
        )
    if absent := sorted(PLAIN - set(map(str, config))):
        raise ConfigError(f"the config lacks {', '.join(absent)}")
    stages = _stages(config.stages)
    _check_kinds(config)
    _check_one_strength(config)
    config = settled(config)
    _check_use(config)
    _check_parts(stages, {key for key in PARTS if config.get(key)})
    _check_held_out(config)
    return config


def without_remnants(config: DictConfig) -> DictConfig:
    """The config without what an experiment says of a part that was dropped (~finetuner)."""

    def is_whole(key: str) -> bool:
        node = config[key]
        if key not in WHOLE or not isinstance(node, DictConfig):
            return True
        return bool({"_target_", "method"} & set(node))

    return OmegaConf.masked_copy(config, [str(key) for key in config if is_whole(str(key))])


def _check_kinds(config: DictConfig) -> None:
    """Each part is a mapping that says what it is: a word alone would be read by nobody."""
    always = {"evaluation", "loader"}
    for part in sorted(PARTS | always):
        node = config.get(part)
        if not isinstance(node, DictConfig) and (node is not None or part in always):
            way = f": {part}._target_=my_module.my_{part}" if part in WHOLE - BY_METHOD else ""
            raise ConfigError(f"{part} must be a mapping, got {checks.shown(node)}{way}")


def _check_one_strength(config: DictConfig) -> None:
    for part in sorted(BY_METHOD):
        if config.get(part) and "strength" in config[part]:
            raise ConfigError(
                f"{part}.strength: the strength of a run stands once, for all of its methods: "
                f"strength={config[part].strength}"
            )


def _check_held_out(config: DictConfig) -> None:
    names = [str(name) for name in config.get("held_out") or {}]
    for name in names:
        if name.endswith("_error") and name.removesuffix("_error") in names:
            raise ConfigError(
                f"held_out.{name} would be taken for the standard error of "
                f"held_out.{name.removesuffix('_error')}: give it another name"
            )


def _check_use(config: DictConfig) -> None:
    stages = set(config.stages)
    if config.compile and not stages & TRAINING:
        raise ConfigError("compile is set, but no stage trains: only training is compiled")
    if config.condition is not None and not stages & {
        "learn_value",
        "finetune",
        "steer",
        "evaluate",
    }:
        raise ConfigError("condition is set, but no stage tunes or samples")
    if config.evaluation.weighed and not config.get("reference"):
        raise ConfigError("evaluation.weighed needs a reference, whose density weighs the samples")
    if config.evaluation.get("weighed_steps") and not config.evaluation.weighed:
        raise ConfigError("evaluation.weighed_steps would do nothing: set evaluation.weighed too")


def _stages(given: Any) -> list[str]:
    listed = given if isinstance(given, ListConfig) else []
    stages = [str(stage) for stage in listed]
    if unknown := [stage for stage in stages if stage not in READS]:
        hint = checks.did_you_mean(unknown[0], READS)
        raise ConfigError(f"stages must be some of {', '.join(READS)}, got {stages}{hint}")
    if not stages:
        raise ConfigError(
            f"stages must be a list, stages=[steer, evaluate], of some of {', '.join(READS)}, "
            f"got {checks.shown(given)}"
        )
    if stages != [stage for stage in READS if stage in stages]:
        raise ConfigError(
            f"stages must stand once each, in the order {', '.join(READS)}, got {stages}"
        )
    if "report" in stages and "evaluate" not in stages:
        raise ConfigError(f"a report tells what was evaluated: add evaluate to the stages {stages}")
    return stages


def _check_parts(stages: list[str], given: set[str]) -> None:
    for stage in stages:
        if lacking := sorted(NEEDS[stage] - given):
            raise ConfigError(
                f"stage {stage} needs {', '.join(lacking)}: choose one, {lacking[0]}=NAME "
                "(`alignflow list` shows them)"
            )
    if idle := sorted(given - set().union(*(READS[stage] for stage in stages))):
        raise ConfigError(
            f"{', '.join(idle)} is set, but none of the stages {', '.join(stages)} reads it: add "
            f"the stage that does, or drop it with ~{idle[0]}"
        )
