"""Train a shipped model through the pipeline, and put it and its card where the package has them.

It may be killed: run again, it continues.
"""

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from alignflow import pipeline
from alignflow.pipeline.folder import RunFolder
from alignflow.policies import FlowMapPolicy, load
from alignflow.tables import markdown_table

SHIPPED = Path(__file__).parent.parent / "policies" / "shipped"
POINTS = 12  # of the curve in a card
CARD = """\
# {name}

{what}

| | |
|---|---|
{before}| trained by | `{command}` |
| steps | {steps} |
| training time | {minutes} min |
| parameters | {parameters} |
| on | {platform}, {threads} thread(s), torch {torch} |

## Curve

{curve}

## Quality

{quality}

## Config

```yaml
{config}```
"""


def train_and_ship(
    name: str,
    what: str,
    quality: Callable[[FlowMapPolicy], dict[str, str]] | None = None,
    stage: str = "pretrain",
    experiment: str | None = None,
) -> None:
    """Run an experiment in outputs, then write policies/shipped/<name>.

    Args:
        name: Of the model.
        what: What it is, for the card.
        quality: A callable (policy) -> measures, for the card.
        stage: Of the run, that makes it.
        experiment: train_<name> if None.
    """
    experiment = experiment or f"train_{name}"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the config")
    overrides = [f"experiment={experiment}", *parser.parse_args().overrides]
    config = pipeline.compose(*overrides)
    command = shlex.join(["alignflow", "run", *overrides])
    run = pipeline.run(config, Path("outputs") / experiment, command)
    ship(run, name, what, quality, stage)


def ship(
    run: Path,
    name: str,
    what: str,
    quality: Callable[[FlowMapPolicy], dict[str, str]] | None = None,
    stage: str = "pretrain",
) -> None:
    """Write policies/shipped/<name> from a run that has ended; arguments as in `train_and_ship`."""
    policy = load(run / "stages" / stage / "model")
    # a model is saved over nothing but a model, and its card is written anew
    (SHIPPED / name / "README.md").unlink(missing_ok=True)
    folder = policy.save(SHIPPED / name, dtype=torch.float16)
    # measured on what is shipped, in half precision, not on what was trained
    measured = quality(load(folder)) if quality is not None else {}
    parameters = sum(p.numel() for p in policy.parameters())
    facts = {"name": name, "what": what, "parameters": parameters, "quality": measured}
    policy.facts = facts | _history(run, stage) | {"before": _before(policy.facts)}
    policy.save(folder, dtype=torch.float16)
    (folder / "README.md").write_text(_card(policy.facts))
    print(f"shipped: {folder}")


def _history(run: Path, stage: str) -> dict[str, Any]:
    """How a model came about, from its run folder."""
    folder, metrics = RunFolder(run), run / "stages" / stage / "metrics.jsonl"
    versions = json.loads((run / "versions.json").read_text())
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines = [line for line in lines if "seconds_per_step" in line]
    # by the steps themselves, so that a run that was cut counts as a whole
    starts = [0, *(line["step"] for line in lines)]
    seconds = sum(
        (line["step"] - start) * line["seconds_per_step"]
        for start, line in zip(starts, lines, strict=False)
    )
    some = lines[:: -max(len(lines) // POINTS, 1)][::-1]
    return {
        "command": (run / "command.txt").read_text().strip(),
        "steps": lines[-1]["step"],
        "minutes": round(seconds / 60, 1),
        "platform": versions["platform"],
        "threads": versions["threads"],
        "torch": versions["packages"]["torch"],
        "curve": [
            [line["step"], round(line["loss_diagonal"], 4), round(line.get("loss_map", 0.0), 5)]
            + ([round(line["loss_score"], 4)] if "loss_score" in line else [])
            for line in some
        ],
        "config": OmegaConf.to_container(
            OmegaConf.masked_copy(folder.config(), ["seed", "policy", "data", "training"])
        ),
    }


def _before(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The earlier trainings of a model, which has the facts of the one it started from."""
    if "command" not in facts:
        return []
    return [*facts.get("before", []), {key: facts[key] for key in ("command", "steps", "minutes")}]


def _card(facts: dict[str, Any]) -> str:
    before = "| first | {steps} steps in {minutes} min by `{command}` |\n"
    head = ["step", "flow loss", "map loss", "energy score"]
    curve = markdown_table(head[: len(facts["curve"][0])], facts["curve"])
    quality = markdown_table(["measure", "value"], facts["quality"].items())
    shown = {
        "before": "".join(before.format(**run) for run in facts["before"]),
        "curve": curve,
        "quality": quality if facts["quality"] else "Not measured.",
        "config": OmegaConf.to_yaml(OmegaConf.create(facts["config"])),
    }
    return CARD.format(**facts | shown)
