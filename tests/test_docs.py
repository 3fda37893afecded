"""README and docs: every block of Python runs, every command is one, as printed.

Blocks of a page have the same names, in order. Comments that no reader sees stand before some:

    <!-- tested with: steps=2000 -> steps=2; n=512 -> n=8 -->    run smaller than printed
    <!-- file: my_module.py -->                                  written to this file as well
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import alignflow
from alignflow import commands, finetuning, steering
from alignflow.cli import main

ROOT = Path(alignflow.__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MEASURED = [*(ROOT / "docs/benchmarks").glob("*.md"), *ROOT.glob("policies/shipped/*/README.md")]
BLOCK = re.compile(
    r"(?:<!-- (?P<marker>tested with|file): (?P<what>.*?) -->\n)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)```",
    re.DOTALL,
)
HYDRA = ("run", "benchmark")
# parsed only: they want a run's folder, draw many pictures or take minutes
PARSED = ("sample", "steer", "resume", "report", "--measure")


class Block(NamedTuple):
    language: str
    text: str
    line: int
    marker: str | None
    what: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            m["language"], m["text"], text.count("\n", 0, m.start("text")), m["marker"], m["what"]
        )
        for m in BLOCK.finditer(text)
    ]


def smaller(block: Block) -> str:
    """The block's code as it is tested; what is replaced must be there."""
    code = block.text
    for change in block.what.split("; ") if block.marker == "tested with" else []:
        printed, tested = change.split(" -> ")
        assert printed in code, f"{printed!r} is not in the block that is tested with {tested!r}"
        code = code.replace(printed, tested)
    return code


def typed(text: str) -> list[list[str]]:
    """Commands of a block, as words."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def dry(words: list[str], monkeypatch, capsys) -> None:
    """Run a command if it is quick; compose or parse it if it is not."""
    program, arguments = Path(words[0]).name, words[1:]
    if program == "alignflow":
        _dry_alignflow(arguments, monkeypatch, capsys)
    elif program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program == "python" and arguments[0].startswith("scripts/"):
        source = "".join(file.read_text() for file in (ROOT / arguments[0]).parent.glob("*.py"))
        assert (ROOT / arguments[0]).is_file()
        assert all(f'"{flag}"' in source for flag in arguments if flag.startswith("--"))
    else:
        assert words == ["pip", "install", "."]


def _dry_alignflow(arguments: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["alignflow"])
    command = arguments[0]
    if command in HYDRA:
        if "--multirun" in arguments:  # the first job of a sweep
            arguments = [word.split(",")[0] for word in arguments if word != "--multirun"]
        assert main([*arguments, "--cfg", "job"]) == 0
        return
    modules = [word.partition(":")[0] for word in arguments if ":" in word]
    seen = []
    if {*arguments} & {*PARSED} or not all(Path(f"{module}.py").exists() for module in modules):
        name = command.replace("-", "_")
        monkeypatch.setattr(commands, name, lambda options: seen.append(options))
    assert main(arguments) == 0, capsys.readouterr().err


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """An empty working directory, from which a user's module is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("my_module", None)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def methods():
    """A page may add a method, which the next test does not see."""
    tables = finetuning.METHODS, steering.METHODS
    before = [dict(table) for table in tables]
    yield
    for table, methods in zip(tables, before, strict=True):
        table.clear()
        table.update(methods)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs_as_printed(page, monkeypatch, capsys):
    names: dict = {}
    for block in blocks(page):
        if block.marker == "file":
            Path(block.what).write_text(block.text)
        if block.language == "python":
            # at its own lines, so that a traceback leads there
            code = compile("\n" * block.line + smaller(block), str(page), "exec")
            exec(code, names)
        elif block.language == "bash":
            for words in typed(block.text):
                dry(words, monkeypatch, capsys)
        else:
            assert block.language in ("", "yaml", "text")
            assert not re.search(r"^(alignflow|make|pip) ", block.text, re.MULTILINE)


def measured() -> dict[str, list[str]]:
    found = re.findall(
        r"`((?:alignflow|python|make) [^`]+)`", "".join(p.read_text() for p in MEASURED)
    )
    return {command: shlex.split(command) for command in sorted(set(found))}


@pytest.mark.parametrize("command", measured(), ids=str)
def test_the_command_of_a_measured_page_still_composes(command, monkeypatch, capsys):
    dry(measured()[command], monkeypatch, capsys)


def test_every_link_of_a_page_leads_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
