"""What is wrong with a run's config, said before anything runs."""

from omegaconf import DictConfig, OmegaConf

from alignflow.precision import PRECISIONS

__all__ = ["ConfigError", "check_config", "tilt_strength", "without_remnants"]

# what each stage cannot do without, and what it reads besides
NEEDS = {
    "pretrain": {"policy", "data", "training"},
    "learn_posterior": {"policy", "training"},
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
SETTINGS = set("name seed device precision compile condition stages evaluation loader".split())
# parts that one key makes what they are; all else in them are its arguments
WHOLE = {"policy", "data", "reward", "judge", "reference", "steerer", "finetuner"}
# whole numbers, with the least that makes sense: errors of means need two samples
EVALUATION = {"samples": 2, "base_samples": 2, "steps": 1, "batch_size": 1, "weighed": 0}
PARTS = set().union(*READS.values())


class ConfigError(ValueError):
    """A config names something unknown, lacks something, or sets what nothing would read."""


def check_config(config: DictConfig) -> None:
    """Refuse a config that could not run to its end, or that holds a knob that would do nothing.

    Raises:
        ConfigError: Naming the key and what to do about it.
    """
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"the config leaves {', '.join(missing)} open: give a value")
    if unknown := sorted(set(config) - SETTINGS - PARTS):
        raise ConfigError(
            f"unknown config key {', '.join(unknown)}; known: {', '.join(sorted(SETTINGS | PARTS))}"
        )
    _check_settings(config)
    _check_use(config)
    _check_stages(list(config.stages))
    _check_parts(list(config.stages), {key for key in PARTS if config.get(key)})
    if "evaluate" in config.stages:
        tilt_strength(config)


def without_remnants(config: DictConfig) -> DictConfig:
    """The config without what an experiment says of a part that was dropped (~finetuner)."""

    def is_whole(key: str) -> bool:
        return key not in WHOLE or bool({"_target_", "method"} & set(config[key] or {}))

    return OmegaConf.masked_copy(config, [str(key) for key in config if is_whole(str(key))])


def tilt_strength(config: DictConfig) -> float | None:
    """The one strength that all methods of a run aim at; None if they have none.

    Raises:
        ConfigError: If they aim at different tilts, so that no one tilt is what they should give.
    """
    strengths = {
        f"{part}.strength": config[part].strength
        for part in ("steerer", "finetuner")
        if config.get(part) and "strength" in config[part]
    }
    if len(set(strengths.values())) > 1:
        found = " and ".join(f"{key}={value}" for key, value in strengths.items())
        raise ConfigError(f"methods compared with one tilt must share its strength, got {found}")
    return next(iter(strengths.values()), None)


def _check_settings(config: DictConfig) -> None:
    if config.precision not in PRECISIONS:
        raise ConfigError(f"precision must be fp32 or bf16, got {config.precision!r}")
    if unknown := sorted(set(config.evaluation) - EVALUATION.keys()):
        raise ConfigError(
            f"unknown key {', '.join(unknown)} in evaluation; known: {', '.join(EVALUATION)}"
        )
    for key, least in EVALUATION.items():
        value = config.evaluation[key]
        if not isinstance(value, int) or value < least:
            raise ConfigError(
                f"evaluation.{key} must be a whole number of at least {least}, got {value!r}"
            )
    if config.evaluation.weighed and not config.get("reference"):
        raise ConfigError("evaluation.weighed needs a reference, whose density weighs the samples")
    labels = config.condition
    if (
        labels is not None
        and not isinstance(labels, int)
        and (isinstance(labels, str) or not labels)
    ):
        raise ConfigError(f"condition must be a label or a list of labels, got {labels!r}")


def _check_use(config: DictConfig) -> None:
    stages = set(config.stages)
    if config.compile and not stages & {"pretrain", "learn_posterior", "finetune"}:
        raise ConfigError("compile is set, but no stage trains: only training is compiled")
    if config.condition is not None and not stages & {"finetune", "steer", "evaluate"}:
        raise ConfigError("condition is set, but no stage tunes or samples")


def _check_stages(stages: list[str]) -> None:
    if not stages or not set(stages) <= set(READS):
        raise ConfigError(f"stages must be some of {', '.join(READS)}, got {stages}")
    if stages != [stage for stage in READS if stage in stages]:
        raise ConfigError(
            f"stages must stand once each, in the order {', '.join(READS)}, got {stages}"
        )
    if "report" in stages and "evaluate" not in stages:
        raise ConfigError(f"a report tells what was evaluated: add evaluate to the stages {stages}")


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
