"""`docs/reliability.md`: what the last fuzzing of each kind came to, written by the script."""

import subprocess
from pathlib import Path

import torch

import alignflow

from .outcome import VERDICTS, Tally

__all__ = ["PAGE", "write_page"]

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
COLUMNS = "kind, tried, wrongly accepted, endless, traceback or unclear, clear, seed, minutes, of"
HEAD = f"| {COLUMNS.replace(', ', ' | ')} |"
TEXT = """\
# Reliability

What the library answers when it is misused, damaged or killed. Written by the script itself:

```bash
.venv/bin/python scripts/fuzz.py --write                 # all kinds
.venv/bin/python scripts/fuzz.py --kind inputs --write   # one of them
```

{table}

- **inputs**: a valid call of the public interface with one argument broken (NaN, infinity, a wrong
  sign, 2.5 for a count, True or a text for a number, another shape, type or number of rows, a class
  for an object, a name with a letter wrong), or with an option that does not exist. *Clear* is an
  error that names the argument, what came, and what was wanted. A value counts as bad only where
  the documentation says so.
- **overrides**: the same for the command line. A clear error has no traceback, a status that is not
  0, and leaves no file or folder behind.
- **checkpoints**: models, judges, samples and checkpoints of trainings, cut, flipped, exchanged,
  edited, replaced by pipes or links, or whole in every byte and asking for a network of another
  size. *Clear* is a `CheckpointError` with the folder's path, within {gigabytes} GB of memory.
  Checksums that are computed anew over an edited file are believed, where what they say is sound.
- **rewards**: rewards with one fault each (raise, answer in another shape or type, NaN, write into
  what they are given, keep state, claim gradients that they have not), in `steer`, `finetune`,
  `evaluate` and `check_reward`. *Clear* is an outcome to the bit as with a sound reward, or a
  refusal that says what is wrong; no tensor of the caller's is changed.
- **kills**: SIGKILL, SIGTERM and SIGINT at random moments of pretraining, tuning, steering, a whole
  run, a sweep and a report, each continued until it is done. *Clear* is an end that is equal to the
  bit to an undisturbed one (models, samples, metrics without durations) with no file left over;
  SIGTERM and SIGINT say how to go on.

A case is tried again, with its traceback, by `--kind KIND --seed SEED --case NUMBER`. A slice of
each kind is part of the tests (`tests/scripts/test_fuzz.py`).
"""


def write_page(tally: Tally, seed: int, seconds: float, path: Path = PAGE) -> None:
    """Write the page with a new row for a kind; the rows of other kinds stay as they are."""
    from .checkpoints import GIGABYTES

    rows = _rows(path.read_text()) if path.exists() else {}
    rows[tally.kind] = _row(tally, seed, seconds)
    columns = HEAD.count("|") - 1
    rule = "|---" + "|---:" * (columns - 2) + "|---|"
    table = "\n".join([HEAD, rule, *(rows[kind] for kind in sorted(rows))])
    path.write_text(TEXT.format(table=table, gigabytes=GIGABYTES))


def _row(tally: Tally, seed: int, seconds: float) -> str:
    counts = tally.counts
    found = [counts[verdict] for verdict in VERDICTS]
    numbers = [len(tally.outcomes), *found, seed, f"{seconds / 60:.0f}"]
    of = f"alignflow {alignflow.__version__} at {_commit()}, torch {torch.__version__}"
    return f"| {' | '.join([tally.kind, *map(str, numbers), of])} |"


def _rows(text: str) -> dict[str, str]:
    """The rows of a page by kind."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines if line != HEAD}


def _commit() -> str:
    command = ["git", "-C", str(PAGE.parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "no commit"
