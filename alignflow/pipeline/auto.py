"""The method `auto`: chosen by a pilot once in a run, and kept in its folder."""

from typing import Any

from alignflow.flow_map import FlowMap
from alignflow.steering import AUTO, advise
from alignflow.steering.advising import LEARNED, Study

from .context import Context
from .display import console
from .folder import read_json, write_json

__all__ = ["chosen", "dry_run_auto", "method_name"]

ADVICE = "advice.json"


def chosen(context: Context, policy: FlowMap, options: dict[str, Any]) -> dict[str, Any]:
    """What `steer` is given in place of `auto`, of this run's pilot or of one that is now made.

    Args:
        context: Of the run.
        policy: The model.
        options: Of the steerer.
    """
    path = context.folder.stage("steer") / ADVICE
    if not path.exists():
        with context.autocast():
            advice = advise(policy, context.tilt, **_asked(context, options))
        console.print(advice, soft_wrap=not console.is_terminal)
        write_json(path, advice.to_dict())
    choice = read_json(path)["choice"]
    if choice.get("value") == LEARNED:
        choice["value"] = options["value"]
    kept = {name: options[name] for name in ("guidance", "micro_batch_size") if name in options}
    return choice | kept


def dry_run_auto(context: Context, policy: FlowMap, options: dict[str, Any]) -> None:
    """Refuse what a pilot would refuse before its first sample."""
    Study(policy, context.tilt, **_asked(context, options))


def method_name(context: Context) -> str:
    """The method of the run's steerer, with the one that `auto` chose."""
    method = context.config.steerer.method
    if method != AUTO:
        return method
    choice = read_json(context.folder.stage("steer") / ADVICE)["choice"]
    return f"{AUTO} ({choice['method']})"


def _asked(context: Context, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `advise`."""
    given = {name: value for name, value in options.items() if name != "method"}
    labels = context.config.condition
    # as many rows as there are labels: several are refused
    rows = slice(1 if labels is None or isinstance(labels, int) else len(labels))
    return given | {
        "condition": context.condition(rows),
        "generator": context.training_generator(),
    }
