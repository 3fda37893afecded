"""What a case came to, and the table that counts them."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .apart import Answer

__all__ = ["ACCEPTED", "CLEAR", "ENDLESS", "UNCLEAR", "VERDICTS", "Outcome", "Tally", "judge_error"]

VERDICTS = ACCEPTED, ENDLESS, UNCLEAR, CLEAR = "accepted", "endless", "unclear", "clear"

# what a message says that tells what was wanted
WANTED = re.compile(
    r"must|needs?\b|takes?\b|expected|one of|known|there is no|is no\b|are no\b|neither|cannot|"
    r"unexpected|missing|required|not finite|would do nothing|has no|has none|only|choose|give|"
    r"instead|lies? in|between|at least|\bfor\b|did you mean|holds? no|is empty|already|"
    r"no such|exists|denied|a directory|runs from|invalid|available|not (in|on|a|an)\b|be taken|"
    r"usage: |\buse\b|name another|say it once",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Outcome:
    """A case with its judgment.

    Args:
        what: The case, as its failure is printed.
        verdict: CLEAR, UNCLEAR, ACCEPTED or ENDLESS.
        note: What was said, or why it is no clear error.
    """

    what: str
    verdict: str
    note: str = ""


@dataclass
class Tally:
    """Outcomes of a kind."""

    kind: str
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.outcomes.append(outcome)

    @property
    def counts(self) -> Counter:
        """How many there are of each verdict."""
        return Counter(outcome.verdict for outcome in self.outcomes)

    @property
    def failures(self) -> list[tuple[int, Outcome]]:
        """All but the clear ones, with their numbers."""
        return [(i, o) for i, o in enumerate(self.outcomes) if o.verdict != CLEAR]


def judge_error(
    what: str, answer: Answer, names: Iterable[str], came: Iterable[str], kinds: Iterable[str]
) -> Outcome:
    """Judge the answer to something bad, which should be a clear error.

    Args:
        what: The case.
        answer: Of the library.
        names: Words of which the message must have one: the argument, or what it is about.
        came: Words of which it must have one: what came, as an error may show it.
        kinds: Names of classes of which the exception must be one.
    """
    if answer.kind == "returned":
        return Outcome(what, ACCEPTED, "nothing was raised")
    if answer.kind == "endless":
        return Outcome(what, ENDLESS, f"not back after {answer.seconds:.0f} s")
    if answer.kind == "died":
        return Outcome(what, UNCLEAR, f"the process died ({answer.value})")
    said = f"{answer.error}: {answer.message.strip()}"
    if not set(kinds) & set(answer.bases):
        return Outcome(what, UNCLEAR, said)
    # then it does not matter what came
    idle = any(words in answer.message for words in ("would do nothing", "takes no condition"))
    for words, lack in ((names, "the argument"), (() if idle else came, "what came")):
        if words and not any(_has(answer.message, word) for word in words):
            return Outcome(what, UNCLEAR, f"does not name {lack}: {said}")
    if not WANTED.search(answer.message):
        return Outcome(what, UNCLEAR, f"does not say what was wanted: {said}")
    return Outcome(what, CLEAR, said)


def _has(message: str, word: str) -> bool:
    """Whether a message has a word, as a whole, in any case, with _, - or a space in its middle."""
    pattern = re.escape(word).replace("_", "[_ -]")
    # 5 is none of 2.5, but steps is one of training.steps
    start = r"(?<![\w.])" if word[:1].isdigit() else r"(?<!\w)" if word[:1].isalpha() else ""
    end = ""
    if word[-1:].isalpha():
        pattern, end = pattern.removesuffix("s"), r"s?(?!\w)"
    elif word[-1:].isdigit():
        end = r"(?!\w)"
    return re.search(start + pattern + end, message, re.IGNORECASE) is not None
