"""Misuse, damage and kills are answered clearly: a slice of what `scripts/fuzz.py` tries."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzzing import inputs, overrides, rewards
from fuzzing.apart import Answer, apart
from fuzzing.outcome import ACCEPTED, CLEAR, ENDLESS, UNCLEAR, VERDICTS, judge_error
from fuzzing.page import write_page

ROOT = Path(__file__).parents[2]
KINDS = ("inputs", "overrides", "checkpoints", "rewards", "kills")
FRACTION, SEED = "0.03", "1"


@pytest.fixture(scope="module")
def said() -> str:
    """What the script says of a slice of each kind: in another process, which may fork."""
    command = [sys.executable, "scripts/fuzz.py", "--fraction", FRACTION, "--seed", SEED]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "clear" in found.stdout, found.stderr
    return found.stdout


def counts(said: str, kind: str) -> dict[str, int]:
    (line,) = re.findall(rf"^{kind}: .*$", said, re.MULTILINE)
    return {verdict: int(n) for n, verdict in re.findall(r"(\d+) (\w+)", line)}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_bad_is_accepted_or_hangs(said, kind):
    found = counts(said, kind)
    assert found[ACCEPTED] == found[ENDLESS] == 0, said


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_bad_is_answered_clearly(said, kind):
    found = counts(said, kind)
    # of bad arguments, 98 in 100 are to be; of damage, kills and faulty rewards, all
    fraction = 0.98 if kind in ("inputs", "overrides") else 1.0
    assert found[CLEAR] >= fraction * found["tried"] > 0, said


# --- that the fuzzing itself sees what it looks for ---


def test_a_call_apart_gives_what_it_returns_or_how_it_ended():
    assert apart(lambda: 3).value == 3
    raised = apart(lambda: 1 / 0)
    assert (raised.kind, raised.error) == ("raised", "ZeroDivisionError")
    assert apart(lambda: time.sleep(60), seconds=0.2).kind == "endless"
    assert apart(lambda: bytes(2 * 2**30), gigabytes=1.0).error == "MemoryError"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer("returned", 3), ACCEPTED),
        (Answer("endless"), ENDLESS),
        (Answer("died", -11), UNCLEAR),
        (Answer("raised", "KeyError", bases=("KeyError",), message="steps"), UNCLEAR),
        (Answer("raised", bases=("ValueError",), message="must be positive, got -1"), UNCLEAR),
        (Answer("raised", bases=("ValueError",), message="steps must be positive"), UNCLEAR),
        (Answer("raised", bases=("ValueError",), message="steps: got -1"), UNCLEAR),
        (Answer("raised", bases=("ValueError",), message="steps must be 1, got -1"), CLEAR),
        (Answer("raised", bases=("ValueError",), message="step must be 1, got -1"), CLEAR),
        (Answer("raised", bases=("ValueError",), message="a.steps must be 1, got -1"), CLEAR),
        (Answer("raised", bases=("ValueError",), message="substeps must be 1, got -1"), UNCLEAR),
    ],
)
def test_a_clear_error_names_the_argument_what_came_and_what_was_wanted(answer, verdict):
    assert judge_error("", answer, ["steps"], ["-1"], ["ValueError"]).verdict == verdict


@pytest.mark.parametrize("cases", [inputs.cases, overrides.cases, rewards.cases])
def test_cases_are_those_of_their_seed(cases):
    def drawn(seed: int) -> list[str]:
        return [getattr(case, "source", str(case)) for case in cases(30, seed)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 30


def test_the_page_keeps_the_rows_of_other_kinds(tmp_path):
    from fuzzing.outcome import Outcome, Tally

    page = tmp_path / "page.md"
    for kind, verdict in [("kills", CLEAR), ("inputs", ACCEPTED), ("kills", UNCLEAR)]:
        write_page(Tally(kind, [Outcome("what", verdict)]), 7, 90.0, page)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == ["kind", "inputs", "kills"]
    assert cells[1][1:8] == ["1", "1", "0", "0", "0", "7", "2"]
    assert cells[2][1:6] == ["1", "0", "0", "1", "0"] and len(VERDICTS) == 4
