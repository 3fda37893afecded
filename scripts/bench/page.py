"""A page under docs/benchmarks: what was run, on what, and its tables in Markdown."""

import platform
import shlex
import sys
from pathlib import Path

import torch

from alignflow.metrics import Estimate
from alignflow.tables import markdown_table as table

__all__ = ["DOCS", "shown", "table", "write_page"]

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"


def write_page(name: str, title: str, *parts: str) -> Path:
    """Write docs/benchmarks/<name>.md: title, command and machine, then the parts as paragraphs."""
    script = Path(sys.argv[0]).resolve().relative_to(DOCS.parents[1])
    command = shlex.join(["python", str(script), *sys.argv[1:]])
    machine = f"{_processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    head = (f"# {title}", f"Written by `{command}` on {machine}.")
    DOCS.mkdir(exist_ok=True)
    path = DOCS / f"{name}.md"
    path.write_text("\n\n".join([*head, *parts]) + "\n")
    print(f"written: {path.relative_to(DOCS.parents[1])}")
    return path


def shown(estimate: Estimate) -> str:
    """A number of a table, with its standard error."""
    return f"{estimate.value:.3f} ± {estimate.standard_error:.3f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
